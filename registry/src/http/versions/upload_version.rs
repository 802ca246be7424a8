use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use souk_http::idempotency::IdempotencyKey;
use souk_protocol::Scope;
use utoipa::ToSchema;

use super::{AdapterVersion, shown_one};
use crate::Registry;
use crate::db::entities::adapter;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, PathOf, Problem, Problems};
use crate::idempotency::{Claim, claim, key_of, route_of};
use crate::upload::with_upload;

/// The parts of an upload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is read, by the derive")]
pub(crate) struct UploadParts {
    /// The number; must be the first part. Semantic version without build metadata.
    #[schema(example = "1.0.0")]
    version: String,
    /// PEFT's configuration, up to 64 KiB.
    #[schema(rename = "adapter_config.json", format = Binary)]
    config: String,
    /// PEFT's weights, up to the operator's limit.
    #[schema(rename = "adapter_model.safetensors", format = Binary)]
    weights: String,
    /// The model card, up to 1 MiB.
    #[schema(rename = "README.md", format = Binary)]
    card: Option<String>,
}

/// Uploads a version: it is checked against the base model and visible when this answers 201.
///
/// Scope: `adapters:write`. A number that is in use or was deleted answers 409; an adapter that cannot be served 422
/// `adapter_rejected` with every problem found, and nothing of it is kept.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions", tag = "versions",
    params(AdapterPath, IdempotencyKey),
    request_body(content = UploadParts, content_type = "multipart/form-data"),
    responses(
        (status = 201, body = AdapterVersion),
        (status = 422, body = Problem, content_type = "application/problem+json",
         description = "The files are not an adapter that can be served; `errors` lists every problem"),
        (status = 507, body = Problem, content_type = "application/problem+json", description = "The disk is full"),
        Problems
    )
)]
pub(crate) async fn upload_version(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    request: Request,
) -> Result<Response, RegistryError> {
    let adapter = may_upload(&registry, &caller, &path).await?;
    let tenant_id = caller.0.tenant.to_string();
    let (route, key) = (route_of(&request), key_of(request.headers())?);
    with_upload(&registry.clone(), adapter, request, async |upload| {
        let claim = match key {
            Some(key) => Some(claim(&registry.db, tenant_id, route, key).await?),
            None => None,
        };
        let claim = match claim {
            Some(Claim::Kept(kept)) => return kept.answer(&upload.only_fingerprint().await?),
            Some(Claim::New(claim)) => Some(claim),
            None => None,
        };
        let complete = upload.receive().await?;
        // A task of its own: the client has sent all that it has to, and its going away changes nothing now.
        let work = tokio::spawn(async move {
            let fingerprint = complete.fingerprint();
            let (adapter, version) = complete.publish().await?;
            let version = shown_one(&registry, &adapter, version).await?;
            let response = (StatusCode::CREATED, Json(version)).into_response();
            match claim {
                Some(claim) => claim.keep_success(&fingerprint, response).await,
                None => Ok(response),
            }
        });
        work.await.map_err(std::io::Error::other)?
    })
    .await
}

async fn may_upload(registry: &Registry, caller: &Caller, path: &AdapterPath) -> Result<adapter::Model, RegistryError> {
    caller.require(Scope::AdaptersWrite)?;
    registry.owned_adapter(&caller.0, &path.owner, &path.name).await
}
