use axum::http::StatusCode;

use super::VersionPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Deletes a version. Its number can never be used again, and who pinned it gets 404; to keep it for those, yank it.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    delete, path = "/adapters/{owner}/{name}/versions/{version}", tag = "versions",
    params(VersionPath),
    responses((status = 204, description = "It is gone, and so are bytes that nothing else refers to"), Problems)
)]
pub(crate) async fn delete_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_version(&caller.0, &path.owner, &path.name, &path.version).await?;
    Ok(StatusCode::NO_CONTENT)
}
