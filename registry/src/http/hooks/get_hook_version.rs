use axum::Json;

use super::{HookVersion, HookVersionPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// One version of a hook, with what was found when it was published.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/hooks/{owner}/{hook}/versions/{version}", tag = "hooks",
    params(HookVersionPath),
    responses((status = 200, body = HookVersion, description = "The version"), Problems)
)]
pub(crate) async fn get_hook_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<HookVersionPath>,
) -> Result<Json<HookVersion>, RegistryError> {
    Ok(Json(registry.get_hook_version(&caller.0, &path.owner, &path.hook, &path.version).await?.into()))
}
