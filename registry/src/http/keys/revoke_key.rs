use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::Registry;
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
    registry.revoke_key(&caller.0, &path.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
