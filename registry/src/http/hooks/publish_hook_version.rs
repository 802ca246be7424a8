use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse as _, Response};
use utoipa::ToSchema;

use super::{HookPath, HookVersion};
use crate::error::RegistryError;
use crate::http::versions::form::FormParts;
use crate::http::{Caller, IdempotencyKey, PathOf, Problem, Problems, Serving, key_of, route_of};
use crate::idempotency::{Claim, Once};

/// The parts of an upload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "only its shape is read, by the derive")]
pub(crate) struct HookParts {
    /// The number; must be the first part. Semantic version without build metadata.
    #[schema(example = "1.0.0")]
    version: String,
    /// The component, up to the operator's limit: 4 MiB, or 32 MiB for tenants that the operator names.
    #[schema(format = Binary)]
    component: String,
}

/// Publishes a version of a hook: its component is checked, compiled and tried, and can be attached when this answers 201.
///
/// Scope: `adapters:write`. A number that is in use or was deleted answers 409, and so does a component that was taken down; one
/// that cannot be served 422 `hook_rejected` with every problem found, and nothing of it is kept.
#[utoipa::path(
    post, path = "/hooks/{owner}/{hook}/versions", tag = "hooks",
    params(HookPath, IdempotencyKey),
    request_body(content = HookParts, content_type = "multipart/form-data"),
    responses(
        (status = 201, body = HookVersion, description = "The version, which can be attached now"),
        (status = 422, body = Problem, content_type = "application/problem+json",
         description = "The component is no hook that can be served; `errors` lists every problem"),
        (status = 507, body = Problem, content_type = "application/problem+json", description = "There is no room for it, or more than the tenant's share would be stored"),
        Problems
    )
)]
pub(crate) async fn publish_hook_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookPath>,
    request: Request,
) -> Result<Response, RegistryError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let upload = registry.begin_hook_upload(&caller.0, &path.owner, &path.hook, announced).await?;
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
    let received = upload.receive(&mut parts).await?;
    let once = Once::new(claim, received.fingerprint());
    // A task of its own: the client has sent all that it has to, and its going away changes nothing now.
    let noted = registry.changes.note_on_drop();
    let work = tokio::spawn(async move {
        let _noted = noted;
        let published = received.publish(&once, HookVersion::from).await;
        once.end().await;
        published
    });
    let version = work.await.map_err(std::io::Error::other)??;
    Ok((StatusCode::CREATED, Json(HookVersion::from(version))).into_response())
}
