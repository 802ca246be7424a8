use axum::Json;

use super::{Policy, PolicyQuery};
use crate::error::RegistryError;
use crate::http::page::{MAX_NAME_CHARS, check_length};
use crate::http::{Caller, Problems, QueryOf, Serving};

/// What the tenant says of its keys.
///
/// Scope: `tenant:manage`.
#[utoipa::path(
    get, path = "/policy", tag = "keys",
    params(PolicyQuery),
    responses((status = 200, description = "The policy", body = Policy), Problems)
)]
pub(crate) async fn get_policy(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(query): QueryOf<PolicyQuery>,
) -> Result<Json<Policy>, RegistryError> {
    check_length("tenant", query.tenant.as_deref(), MAX_NAME_CHARS)?;
    Ok(Json(registry.policy(&caller.0, query.tenant.as_deref()).await?.into()))
}
