use axum::http::StatusCode;

use super::UploadPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Ends an upload that goes straight to the object store: what has arrived goes, and its number is free.
///
/// Scope: `adapters:write`. One that is being completed answers 409 `upload_in_progress`.
#[utoipa::path(
    delete, path = "/adapters/{owner}/{name}/uploads/{upload}", tag = "uploads",
    params(UploadPath),
    responses((status = 204, description = "It is no more"), Problems)
)]
pub(crate) async fn abort_upload(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<UploadPath>,
) -> Result<StatusCode, RegistryError> {
    registry.abort_direct_upload(&caller.0, &path.owner, &path.name, &path.upload).await?;
    Ok(StatusCode::NO_CONTENT)
}
