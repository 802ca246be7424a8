use axum::http::StatusCode;

use super::TenantPath;
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Takes back that a tenant is to be erased. Where nothing was asked for, or it is done, nothing changes.
///
/// Scope: `admin`.
#[utoipa::path(
    delete, path = "/tenants/{tenant}/erasure", tag = "tenants",
    params(TenantPath),
    responses((status = 204, description = "It is not to be erased"), Problems)
)]
pub(crate) async fn cancel_erasure(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TenantPath>,
) -> Result<StatusCode, RegistryError> {
    registry.cancel_erasure(&caller.0, &path.tenant).await?;
    Ok(StatusCode::NO_CONTENT)
}
