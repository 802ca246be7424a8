use axum::Json;

use super::{AccessRequest, AccessRequestPath};
use crate::error::RegistryError;
use crate::http::{Caller, PathOf, Problems, Serving};

/// A request for access, for the tenant that made it and for who may decide it; for others there is none.
///
/// Scope: `adapters:read`.
#[utoipa::path(
    get, path = "/access-requests/{request}", tag = "access",
    params(AccessRequestPath),
    responses((status = 200, description = "The request", body = AccessRequest), Problems)
)]
pub(crate) async fn get_access_request(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<AccessRequestPath>,
) -> Result<Json<AccessRequest>, RegistryError> {
    Ok(Json(registry.access_request(&caller.0, &path.request).await?.into()))
}
