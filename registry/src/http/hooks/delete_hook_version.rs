use axum::http::StatusCode;

use super::HookVersionPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Deletes a version of a hook. What is attached of it fails from the next request on, as its step says. Its number can never be
/// used again.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    delete, path = "/hooks/{owner}/{hook}/versions/{version}", tag = "hooks",
    params(HookVersionPath),
    responses((status = 204, description = "It is gone, and so are bytes that nothing else refers to"), Problems)
)]
pub(crate) async fn delete_hook_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookVersionPath>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_hook_version(&caller.0, &path.owner, &path.hook, &path.version).await?;
    Ok(StatusCode::NO_CONTENT)
}
