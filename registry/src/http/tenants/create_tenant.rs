use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use souk_http::idempotency::IdempotencyKey;
use souk_protocol::Scope;
use souk_protocol::reference::check_name_part;
use utoipa::ToSchema;

use super::{Tenant, insert_tenant};
use crate::Registry;
use crate::db::is_unique_violation;
use crate::error::{Finding, RegistryError};
use crate::http::{Body, Caller, Problems};

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
    responses((status = 201, body = Tenant), Problems)
)]
pub(crate) async fn create_tenant(
    State(registry): State<Registry>,
    caller: Caller,
    Body(request): Body<CreateTenant>,
) -> Result<(StatusCode, Json<Tenant>), RegistryError> {
    caller.require(Scope::Admin)?;
    let name = check_name_part("name", &request.name);
    RegistryError::unless_valid(
        name.err().map(|error| Finding::field("name", error.to_string())).into_iter().collect(),
    )?;
    let tenant = insert_tenant(&registry.db, &request.name).await.map_err(|error| {
        if is_unique_violation(&error) {
            return RegistryError::AlreadyExists { what: "tenant", name: request.name };
        }
        error.into()
    })?;
    tracing::info!(tenant.name = tenant.name, "Made a tenant");
    Ok((StatusCode::CREATED, Json(tenant.into())))
}
