use axum::http::StatusCode;

use super::GrantPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Takes back what was granted to a tenant: it calls the adapter no more from the next request on, and its running answers end
/// as if the version had been taken down. The request that it was granted for is revoked then.
///
/// Scope: `access:decide`; for a gated adapter a person's or an operator's, else 403 `person_needed`.
#[utoipa::path(
    delete, path = "/adapters/{owner}/{name}/grants/{tenant}", tag = "access",
    params(GrantPath),
    responses((status = 204, description = "The tenant may call it no more"), Problems)
)]
pub(crate) async fn delete_grant(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<GrantPath>,
) -> Result<StatusCode, RegistryError> {
    registry.delete_grant(&caller.0, &path.owner, &path.name, &path.tenant).await?;
    Ok(StatusCode::NO_CONTENT)
}
