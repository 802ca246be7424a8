use axum::http::StatusCode;

use super::HookGrantPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Takes back what was granted to a tenant: what it has attached of the hook fails from its next request on, as its step says.
///
/// Scope: `access:decide`.
#[utoipa::path(
    delete, path = "/hooks/{owner}/{hook}/grants/{tenant}", tag = "hooks",
    params(HookGrantPath),
    responses((status = 204, description = "The tenant may use it no more"), Problems)
)]
pub(crate) async fn delete_hook_grant(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookGrantPath>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_hook_grant(&caller.0, &path.owner, &path.hook, &path.tenant).await?;
    Ok(StatusCode::NO_CONTENT)
}
