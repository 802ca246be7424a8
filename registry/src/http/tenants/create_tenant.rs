use axum::Json;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Tenant;
use crate::error::RegistryError;
use crate::http::{Body, Caller, IdempotencyKey, Problems, Serving};
use crate::idempotency::Once;

/// A tenant to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTenant {
    /// 1 to 64 of a-z, 0-9, `-`, `_`, `.`, beginning with a letter or digit. It cannot be changed.
    name: String,
}

/// Makes a tenant. It has no key yet: make one with `POST /keys` and its name as `tenant`.
///
/// Scope: `admin`. A name that is taken answers 409 `already_exists`.
#[utoipa::path(
    post, path = "/tenants", tag = "tenants",
    params(IdempotencyKey),
    request_body = CreateTenant,
    responses((status = 201, body = Tenant, description = "The tenant"), Problems)
)]
pub(crate) async fn create_tenant(
    Serving(registry): Serving,
    caller: Caller,
    once: Once,
    Body(request): Body<CreateTenant>,
) -> Result<(StatusCode, Json<Tenant>), RegistryError> {
    let tenant = registry.create_tenant(&caller.0, &request.name, &once, Tenant::from).await?;
    Ok((StatusCode::CREATED, Json(tenant.into())))
}
