use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, QueryOf, Serving};
use crate::keys::Made;

/// Which key.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct KeyPath {
    /// The key's public id.
    pub(super) id: String,
}

/// What becomes of others.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RevokeKey {
    /// `revoke`, as if absent: the keys that were made with this one go with it, and those made with them. `keep`: they
    /// stay, for a key that is replaced and that nobody else had.
    #[param(inline)]
    made_keys: Option<MadeKeys>,
}

/// Keys that were made with one that is revoked.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MadeKeys {
    #[default]
    Revoke,
    Keep,
}

/// Revokes a key and those that were made with it, effective at once; their running answers end. Revoking a revoked key
/// changes nothing.
///
/// Scope: `keys:manage`; a person revokes their own without it, and services' keys that were made with it then stay.
/// Another tenant's key and an admin key are 404, except for an operator.
#[utoipa::path(
    delete, path = "/keys/{id}", tag = "keys",
    params(KeyPath, RevokeKey),
    responses((status = 204, description = "The key does not work any more"), Problems)
)]
pub(crate) async fn revoke_key(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<KeyPath>,
    QueryOf(request): QueryOf<RevokeKey>,
) -> Result<StatusCode, RegistryError> {
    let made = match request.made_keys.unwrap_or_default() {
        MadeKeys::Revoke => Made::RevokedToo,
        MadeKeys::Keep => Made::Kept,
    };
    registry.revoke_key(&caller.0, &path.id, made).await?;
    Ok(StatusCode::NO_CONTENT)
}
