use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// Which key.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ServicePath {
    /// The public id of the service's key.
    id: String,
}

/// Revokes a service's key, effective at once; its tokens end within a second. Revoking a revoked one changes nothing.
///
/// Scope: `admin`.
#[utoipa::path(
    delete, path = "/services/{id}", tag = "services",
    params(ServicePath),
    responses((status = 204, description = "The key does not work any more"), Problems)
)]
pub(crate) async fn revoke_service(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<ServicePath>,
) -> Result<StatusCode, RegistryError> {
    registry.revoke_service(&caller.0, &path.id).await?;
    Ok(StatusCode::NO_CONTENT)
}
