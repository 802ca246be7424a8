use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::DirectUpload;
use crate::error::RegistryError;
use crate::http::adapters::AdapterPath;
use crate::http::{Body, Caller, IdempotencyKey, PathOf, Problem, Problems, Serving};
use crate::idempotency::Once;
use crate::publishing::AskedUpload;

/// An upload that is to begin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BeginUpload {
    /// The version's number: a semantic version without build metadata.
    #[schema(example = "1.0.0")]
    version: String,
    /// SHA-256 of `adapter_model.safetensors`: `sha256:` and 64 hex digits.
    #[schema(example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    digest: String,
    /// Its length, up to the operator's limit.
    #[schema(example = 335_544_320, minimum = 1)]
    size_bytes: u64,
}

/// Begins an upload of which the weights go straight to the object store, in parts that can be sent again. Its number is
/// reserved, and its length counts as stored, until it is completed, ended, or expires.
///
/// Scope: `adapters:write`. Where objects are in a folder it answers 409 `direct_uploads_unavailable`: send all files in one
/// form then. A number that is in use, or that is being uploaded, answers 409.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/uploads", tag = "uploads",
    params(AdapterPath, IdempotencyKey),
    request_body = BeginUpload,
    responses(
        (status = 201, body = DirectUpload, description = "The upload, with the lengths that its parts must have"),
        (status = 507, body = Problem, content_type = "application/problem+json",
         description = "There is no room for it, or more than the tenant's share would be stored"),
        Problems
    )
)]
pub(crate) async fn begin_upload(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AdapterPath>,
    once: Once,
    Body(request): Body<BeginUpload>,
) -> Result<(StatusCode, Json<DirectUpload>), RegistryError> {
    let BeginUpload { version, digest, size_bytes } = request;
    let asked = AskedUpload { version, digest, size_bytes };
    let name = (path.owner.as_str(), path.name.as_str());
    let begun = registry.begin_direct_upload(&caller.0, name, asked, &once, DirectUpload::from).await?;
    Ok((StatusCode::CREATED, Json(begun.into())))
}
