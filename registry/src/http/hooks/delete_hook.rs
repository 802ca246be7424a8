use axum::http::StatusCode;

use super::HookPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Deletes a hook with its versions. What is attached of it fails from the next request on, as its step says. Its name can never be
/// used again.
///
/// Scope: `adapters:write`.
#[utoipa::path(
    delete, path = "/hooks/{owner}/{hook}", tag = "hooks",
    params(HookPath),
    responses((status = 204, description = "It is gone, and so are bytes that nothing else refers to"), Problems)
)]
pub(crate) async fn delete_hook(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookPath>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_hook(&caller.0, &path.owner, &path.hook).await?;
    Ok(StatusCode::NO_CONTENT)
}
