use axum::Json;
use axum::extract::State;
use souk_protocol::Scope;

use super::{AdapterVersion, VersionPath, set_state, shown_one};
use crate::Registry;
use crate::catalog::{VersionState, existing_version};
use crate::db::begin_write;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems};

/// Yanks a version: who names it by number or digest is still served; `owner/name` and tags do not choose it.
///
/// Scope: `adapters:write`. Yanking a yanked version changes nothing.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions/{version}/yank", tag = "versions",
    params(VersionPath),
    responses((status = 200, body = AdapterVersion), Problems)
)]
pub(crate) async fn yank_version(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
) -> Result<Json<AdapterVersion>, RegistryError> {
    move_to(&registry, &caller, &path, VersionState::Yanked, "yanked").await
}

/// Makes a yanked version an ordinary one again.
///
/// Scope: `adapters:write`. Unyanking a ready version changes nothing.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions/{version}/unyank", tag = "versions",
    params(VersionPath),
    responses((status = 200, body = AdapterVersion), Problems)
)]
pub(crate) async fn unyank_version(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
) -> Result<Json<AdapterVersion>, RegistryError> {
    move_to(&registry, &caller, &path, VersionState::Ready, "unyanked").await
}

async fn move_to(
    registry: &Registry,
    caller: &Caller,
    path: &VersionPath,
    state: VersionState,
    action: &'static str,
) -> Result<Json<AdapterVersion>, RegistryError> {
    caller.require(Scope::AdaptersWrite)?;
    let adapter = registry.owned_adapter(&caller.0, &path.owner, &path.name).await?;
    let transaction = begin_write(&registry.db).await?;
    let mut version = existing_version(&transaction, &adapter, &path.version).await?;
    if !matches!(version.state(), VersionState::Ready | VersionState::Yanked) {
        let name = format!("{}/{}@{}", path.owner, path.name, path.version);
        return Err(RegistryError::WrongState { name, state: version.state, action });
    }
    if version.state() != state {
        set_state(&transaction, &version, state, None).await?;
        version.state = state.as_str().to_owned();
    }
    transaction.commit().await?;
    Ok(Json(shown_one(registry, &adapter, version).await?))
}
