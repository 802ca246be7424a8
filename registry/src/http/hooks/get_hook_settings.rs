use axum::Json;

use super::HookSettings;
use crate::error::RegistryError;
use crate::http::{Caller, Problems, Serving};

/// What the tenant's hooks may read of it, and who reads what hooks say in its requests.
///
/// Scope: `tenant:manage`.
#[utoipa::path(
    get, path = "/hook-settings", tag = "pipelines",
    responses((status = 200, description = "The settings", body = HookSettings), Problems)
)]
pub(crate) async fn get_hook_settings(
    Serving(registry): Serving,
    caller: Caller,
) -> Result<Json<HookSettings>, RegistryError> {
    Ok(Json(registry.hook_settings(&caller.0).await?.into()))
}
