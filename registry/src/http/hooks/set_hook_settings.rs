use std::collections::BTreeMap;

use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::HookSettings;
use crate::error::RegistryError;
use crate::hooks::NewHookSettings;
use crate::http::{Body, Caller, Problems, Serving};

/// Settings in the place of those before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetHookSettings {
    /// What hooks that the tenant attaches read with `variables`: at most 64, each of up to 4 KiB, with names of letters, digits,
    /// `_`, `-` and `.`. They are no place for secrets: whoever's hook is attached reads them.
    #[serde(default)]
    variables: BTreeMap<String, String>,
    /// Names of tenants that may read what their hooks say in this tenant's requests.
    #[serde(default)]
    log_readers: Vec<String>,
}

/// Sets what the tenant's hooks may read of it, and who reads what hooks say in its requests, for the next request, within a second
/// everywhere.
///
/// Scope: `tenant:manage`.
#[utoipa::path(
    put, path = "/hook-settings", tag = "pipelines",
    request_body = SetHookSettings,
    responses((status = 200, description = "The settings as they are now", body = HookSettings), Problems)
)]
pub(crate) async fn set_hook_settings(
    Serving(registry): Serving,
    caller: Caller,
    Body(request): Body<SetHookSettings>,
) -> Result<Json<HookSettings>, RegistryError> {
    let SetHookSettings { variables, log_readers } = request;
    let new = NewHookSettings { variables, log_readers };
    Ok(Json(registry.set_hook_settings(&caller.0, new).await?.into()))
}
