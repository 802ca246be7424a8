use axum::Json;

use super::{HookVersion, HookVersionPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Yanks a version of a hook: what is attached of it goes on, and it can still be attached by number or digest; `owner/name` does
/// not choose it.
///
/// Scope: `adapters:write`. Yanking a yanked version changes nothing.
#[utoipa::path(
    post, path = "/hooks/{owner}/{hook}/versions/{version}/yank", tag = "hooks",
    params(HookVersionPath),
    responses((status = 200, body = HookVersion, description = "The version, which is yanked now"), Problems)
)]
pub(crate) async fn yank_hook_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookVersionPath>,
) -> Result<Json<HookVersion>, RegistryError> {
    let version = registry.set_hook_yanked(&caller.0, &path.owner, &path.hook, &path.version, true).await?;
    Ok(Json(version.into()))
}

/// Makes a yanked version of a hook an ordinary one again.
///
/// Scope: `adapters:write`. Unyanking a ready version changes nothing.
#[utoipa::path(
    post, path = "/hooks/{owner}/{hook}/versions/{version}/unyank", tag = "hooks",
    params(HookVersionPath),
    responses((status = 200, body = HookVersion, description = "The version, which is ready now"), Problems)
)]
pub(crate) async fn unyank_hook_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookVersionPath>,
) -> Result<Json<HookVersion>, RegistryError> {
    let version = registry.set_hook_yanked(&caller.0, &path.owner, &path.hook, &path.version, false).await?;
    Ok(Json(version.into()))
}
