use axum::Json;
use axum::extract::State;
use souk_protocol::Scope;

use super::{AdapterVersion, VersionPath, shown_one};
use crate::Registry;
use crate::catalog::existing_version;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems};

/// One version.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/adapters/{owner}/{name}/versions/{version}", tag = "versions",
    params(VersionPath),
    responses((status = 200, body = AdapterVersion), Problems)
)]
pub(crate) async fn get_version(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
) -> Result<Json<AdapterVersion>, RegistryError> {
    caller.require(Scope::AdaptersRead)?;
    let adapter = registry.visible_adapter(&caller.0, &path.owner, &path.name).await?;
    let row = existing_version(&registry.db, &adapter, &path.version).await?;
    Ok(Json(shown_one(&registry, &adapter, row).await?))
}
