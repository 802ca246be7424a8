use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse as _, Response};
use utoipa::ToSchema;

use super::AdapterVersion;
use super::form::FormParts;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Caller, IdempotencyKey, PathOf, Problem, Problems, Serving, key_of, route_of};
use crate::idempotency::{Claim, Once};
use crate::publishing::Kind;

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
    /// The version's own chat template (Jinja), up to 64 KiB. It is tried, and refused with reason and line if it fails.
    #[schema(rename = "chat_template.jinja", format = Binary)]
    chat_template: Option<String>,
    /// The tokenizer's settings, up to 4 MiB: its `chat_template`, where `chat_template.jinja` is not sent, and added tokens.
    #[schema(rename = "tokenizer_config.json", format = Binary)]
    tokenizer_config: Option<String>,
    /// Tokens that were added in training, up to 4 MiB. Those that the base model lacks are named in the report.
    #[schema(rename = "added_tokens.json", format = Binary)]
    added_tokens: Option<String>,
    /// The base model, where the configuration's own name says nothing (`/opt/ml/input/model`). It does not overrule a name
    /// that says another model.
    base: Option<String>,
    /// `true` lets in an adapter that changes nothing.
    allow_no_effect: Option<bool>,
    /// Names of files of the folder that were not sent, as a JSON list; kept in the report.
    left_out: Option<String>,
}

/// Uploads a version: it is checked against the base model and visible when this answers 201.
///
/// Scope: `adapters:write`. A number that is in use or was deleted answers 409, and so
/// does content that was taken down; an adapter that cannot be served 422
/// `adapter_rejected` with every problem found, and nothing of it is kept. One more than a limit on versions per day allows
/// answers 429 `limit_reached`.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions", tag = "versions",
    params(AdapterPath, IdempotencyKey),
    request_body(content = UploadParts, content_type = "multipart/form-data"),
    responses(
        (status = 201, body = AdapterVersion, description = "The version, which is visible now"),
        (status = 422, body = Problem, content_type = "application/problem+json",
         description = "The files are not an adapter that can be served; `errors` lists every problem"),
        (status = 507, body = Problem, content_type = "application/problem+json", description = "There is no room for it, or more than the tenant's share would be stored"),
        Problems
    )
)]
pub(crate) async fn upload_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    request: Request,
) -> Result<Response, RegistryError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let upload = registry.begin_upload(&caller.0, &path.owner, &path.name, Kind::Adapter, announced).await?;
    let (route, key) = (route_of(&request), key_of(request.headers())?);
    let mut parts = FormParts::of(request)?;
    let claim = match key {
        Some(key) => Some(registry.claim(&caller.0, route, key).await?),
        None => None,
    };
    let claim = match claim {
        Some(Claim::Kept(kept)) => {
            let sent = upload.fingerprint(&mut parts).await?;
            return Ok(kept.for_body(&sent)?.into_response());
        }
        Some(Claim::New(claim)) => Some(claim),
        None => None,
    };
    let complete = upload.receive(&mut parts).await?;
    let once = Once::new(claim, complete.fingerprint());
    // A task of its own: the client has sent all that it has to, and its going away changes nothing now.
    let noted = registry.changes.note_on_drop();
    let work = tokio::spawn(async move {
        let _noted = noted;
        let published = complete.publish(&once, AdapterVersion::from).await;
        once.end().await;
        published
    });
    let version = work.await.map_err(std::io::Error::other)??;
    Ok((StatusCode::CREATED, Json(AdapterVersion::from(version))).into_response())
}
