use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use souk_protocol::Scope;
use utoipa::ToSchema;

use super::{AdapterVersion, VersionPath, set_state, shown_one};
use crate::Registry;
use crate::catalog::{VersionState, existing_version};
use crate::db::begin_write;
use crate::error::{Finding, RegistryError};
use crate::http::{Body, Caller, PathOf, Problems};

const MAX_REASON_CHARS: usize = 1000;

/// Why a version is taken down.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TakeDown {
    /// 1 to 1,000 characters; its owner sees them.
    reason: String,
}

/// Takes a version down: it is served to nobody, at once. Its owner can still delete it.
///
/// Scope: `admin`. It acts on any tenant's adapter.
#[utoipa::path(
    post, path = "/adapters/{owner}/{name}/versions/{version}/take-down", tag = "versions",
    params(VersionPath),
    request_body = TakeDown,
    responses((status = 200, body = AdapterVersion), Problems)
)]
pub(crate) async fn take_down_version(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<VersionPath>,
    Body(request): Body<TakeDown>,
) -> Result<Json<AdapterVersion>, RegistryError> {
    caller.require(Scope::Admin)?;
    let num_chars = request.reason.chars().count();
    let finding = Finding::field("reason", format!("1 to {MAX_REASON_CHARS} characters, given {num_chars}"));
    let is_good = (1..=MAX_REASON_CHARS).contains(&num_chars);
    RegistryError::unless_valid((!is_good).then_some(finding).into_iter().collect())?;
    let adapter = registry.any_adapter(&path.owner, &path.name).await?;
    let transaction = begin_write(&registry.db).await?;
    let mut version = existing_version(&transaction, &adapter, &path.version).await?;
    set_state(&transaction, &version, VersionState::TakenDown, Some(request.reason.clone())).await?;
    transaction.commit().await?;
    registry.take_downs.tell(&version.digest);
    tracing::warn!(
        adapter.owner = path.owner,
        adapter.name = path.name,
        version.number = path.version,
        reason = request.reason,
        "Took a version down"
    );
    version.state = VersionState::TakenDown.as_str().to_owned();
    version.state_reason = Some(request.reason);
    Ok(Json(shown_one(&registry, &adapter, version).await?))
}
