use axum::Json;

use super::{HookGrant, HookGrantPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Lets a tenant see and attach a hook while that is shared.
///
/// Scope: `access:decide`.
#[utoipa::path(
    put, path = "/hooks/{owner}/{hook}/grants/{tenant}", tag = "hooks",
    params(HookGrantPath),
    responses((status = 200, description = "The grant", body = HookGrant), Problems)
)]
pub(crate) async fn put_hook_grant(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookGrantPath>,
) -> Result<Json<HookGrant>, RegistryError> {
    Ok(Json(registry.put_hook_grant(&caller.0, &path.owner, &path.hook, &path.tenant).await?.into()))
}
