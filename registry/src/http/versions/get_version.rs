use axum::Json;

use super::{AdapterVersion, VersionPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// One version.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/versions/{version}", tag = "versions",
    params(VersionPath),
    responses((status = 200, body = AdapterVersion, description = "The version"), Problems)
)]
pub(crate) async fn get_version(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
) -> Result<Json<AdapterVersion>, RegistryError> {
    let version = registry.get_version(&caller.0, &path.owner, &path.name, &path.version).await?;
    Ok(Json(version.into()))
}
