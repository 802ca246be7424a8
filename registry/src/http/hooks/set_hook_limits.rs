use std::collections::BTreeMap;

use axum::Json;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::HookLimits;
use crate::error::RegistryError;
use crate::hooks::HookLimitsRequest;
use crate::http::tenants::TenantPath;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// What is to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetHookLimits {
    /// Limits by name: each takes the place of the one before, null brings back what the settings say, and what is absent stays. Whole
    /// numbers up to `[hooks.ceiling]` of the settings; how much runs at once up to `hooks.max_running_per_tenant` and
    /// `hooks.max_streams`.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, Option<u64>>)]
    limits: BTreeMap<String, Value>,
    /// Whether the tenant may publish large components; absent for as it is. Whoever is in `registry.hooks.large_for` may anyway.
    large_components: Option<bool>,
}

/// Sets what hooks of a tenant may take, in whoever's requests they act where that tenant attached them; and how many run at once in
/// its own requests, whoever's they are. For the next request, within a second everywhere.
///
/// Scope: `admin`.
#[utoipa::path(
    patch, path = "/tenants/{tenant}/hook-limits", tag = "pipelines",
    params(TenantPath),
    request_body = SetHookLimits,
    responses((status = 200, description = "All of them as they are now", body = HookLimits), Problems)
)]
pub(crate) async fn set_hook_limits(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TenantPath>,
    Body(request): Body<SetHookLimits>,
) -> Result<Json<HookLimits>, RegistryError> {
    let SetHookLimits { limits, large_components } = request;
    let request = HookLimitsRequest { limits, large_components };
    Ok(Json(registry.set_hook_limits(&caller.0, &path.tenant, request).await?.into()))
}
