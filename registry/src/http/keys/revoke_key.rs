use axum::extract::State;
use axum::http::StatusCode;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use serde::Deserialize;
use souk_protocol::Scope;
use utoipa::IntoParams;

use crate::Registry;
use crate::db::entities::api_key;
use crate::db::now_ms;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems};

/// Which key.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct KeyPath {
    /// The key's public id.
    id: String,
}

/// Revokes a key, effective at once. Revoking a revoked key changes nothing.
///
/// Scope: `keys:manage`. Another tenant's key is 404, except for an operator.
#[utoipa::path(
    delete, path = "/keys/{id}", tag = "keys",
    params(KeyPath),
    responses((status = 204, description = "The key does not work any more"), Problems)
)]
pub(crate) async fn revoke_key(
    State(registry): State<Registry>,
    caller: Caller,
    PathOf(path): PathOf<KeyPath>,
) -> Result<StatusCode, RegistryError> {
    caller.require(Scope::KeysManage)?;
    let found = api_key::Entity::find_by_id(&path.id).one(&registry.db).await?;
    let may_revoke = |key: &api_key::Model| key.tenant_id == caller.0.tenant.as_str() || caller.0.may(Scope::Admin);
    let key = found.filter(may_revoke).ok_or(RegistryError::NotFound { what: "key", name: path.id })?;
    api_key::Entity::update_many()
        .col_expr(api_key::Column::RevokedAtMs, now_ms().into())
        .filter(api_key::Column::Id.eq(&key.id))
        .filter(api_key::Column::RevokedAtMs.is_null())
        .exec(&registry.db)
        .await?;
    registry.authenticator.forget_all();
    tracing::info!(key.id = key.id, "Revoked a key");
    Ok(StatusCode::NO_CONTENT)
}
