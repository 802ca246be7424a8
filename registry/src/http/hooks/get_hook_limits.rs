use axum::Json;

use super::HookLimits;
use crate::error::RegistryError;
use crate::http::members::OfTenant;
use crate::http::{Caller, Problems, QueryOf, Serving};

/// What hooks of the tenant may take.
///
/// Scope: `tenant:manage`.
#[utoipa::path(
    get, path = "/hook-limits", tag = "pipelines",
    params(OfTenant),
    responses((status = 200, description = "All of them", body = HookLimits), Problems)
)]
pub(crate) async fn get_hook_limits(
    Serving(registry): Serving,
    caller: Caller,
    QueryOf(of): QueryOf<OfTenant>,
) -> Result<Json<HookLimits>, RegistryError> {
    Ok(Json(registry.hook_limits(&caller.0, of.tenant()).await?.into()))
}
