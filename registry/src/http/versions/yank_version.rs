use axum::Json;

use super::{AdapterVersion, VersionPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Yanks a version: who names it by number or digest is still served; `owner/name` and tags do not choose it.
///
/// Scope: `adapters:write`. Yanking a yanked version changes nothing.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions/{version}/yank", tag = "versions",
    params(VersionPath),
    responses((status = 200, body = AdapterVersion, description = "The version, which is yanked now"), Problems)
)]
pub(crate) async fn yank_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
) -> Result<Json<AdapterVersion>, RegistryError> {
    let version = registry.set_yanked(&caller.0, &path.owner, &path.name, &path.version, true).await?;
    Ok(Json(version.into()))
}

/// Makes a yanked version an ordinary one again.
///
/// Scope: `adapters:write`. Unyanking a ready version changes nothing.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions/{version}/unyank", tag = "versions",
    params(VersionPath),
    responses((status = 200, body = AdapterVersion, description = "The version, which is ready now"), Problems)
)]
pub(crate) async fn unyank_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
) -> Result<Json<AdapterVersion>, RegistryError> {
    let version = registry.set_yanked(&caller.0, &path.owner, &path.name, &path.version, false).await?;
    Ok(Json(version.into()))
}
