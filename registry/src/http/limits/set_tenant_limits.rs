use std::collections::BTreeMap;

use axum::Json;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{LimitChange, SubjectLimits, asked};
use crate::error::RegistryError;
use crate::http::tenants::TenantPath;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// What is to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetTenantLimits {
    /// Limits by name: each takes the place of the one before, null takes it away, and what is absent stays. Without one of its
    /// own the tenant has the installation's default.
    #[serde(default)]
    limits: BTreeMap<String, LimitChange>,
    /// What the tenant gets of what is shared out, beside others of which each has 1: 1 to 16; absent for what it has.
    #[serde(default)]
    #[schema(value_type = Option<u32>, example = 2)]
    gate_weight: Option<Value>,
}

/// Sets limits of a tenant, and what it weighs at gates. They hold for the next request, within a second everywhere.
///
/// Scope: `admin`.
#[utoipa::path(
    patch, path = "/tenants/{tenant}/limits", tag = "limits",
    params(TenantPath),
    request_body = SetTenantLimits,
    responses((status = 200, description = "The tenant's limits as they are now", body = SubjectLimits), Problems)
)]
pub(crate) async fn set_tenant_limits(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TenantPath>,
    Body(request): Body<SetTenantLimits>,
) -> Result<Json<SubjectLimits>, RegistryError> {
    let SetTenantLimits { limits, gate_weight } = request;
    let set = registry.set_tenant_limits(&caller.0, &path.tenant, asked(limits), gate_weight.as_ref()).await?;
    Ok(Json(set.into()))
}
