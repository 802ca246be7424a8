use axum::Json;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::db::data_map::what_stays;
use crate::db::{TenantErasureRow, moment, ms_of};
use crate::error::RegistryError;
use crate::http::{Body, Caller, PathOf, Problems, Serving};

/// Which tenant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TenantPath {
    /// Its name.
    pub(crate) tenant: String,
}

/// When a tenant is to be erased.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestErasure {
    /// A moment in the future (RFC 3339); absent for 30 days from now.
    #[serde(default, with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
}

/// An erasure that is to be, or was.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantErasure {
    /// The tenant's id.
    tenant_id: String,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    requested_at: OffsetDateTime,
    /// From when on the tenant is erased.
    #[serde(with = "time::serde::rfc3339")]
    due_at: OffsetDateTime,
    /// When it was; null while it is not.
    #[serde(with = "time::serde::rfc3339::option")]
    done_at: Option<OffsetDateTime>,
    /// The tables that keep rows of the tenant, without what a person wrote.
    stays: Vec<Stays>,
}

/// A table of which an erasure leaves rows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stays {
    /// The table's name.
    #[schema(example = "adapters")]
    table: &'static str,
    /// Why they stay.
    #[schema(example = "a name is never given again")]
    why: &'static str,
}

impl From<TenantErasureRow> for TenantErasure {
    fn from(row: TenantErasureRow) -> Self {
        Self {
            tenant_id: row.tenant_id,
            requested_at: moment(row.requested_at_ms),
            due_at: moment(row.due_at_ms),
            done_at: row.done_at_ms.map(moment),
            stays: what_stays().map(|(table, why)| Stays { table, why }).collect(),
        }
    }
}

/// Asks for a tenant's erasure. Until it is due nothing changes, and it can be taken back; then its keys end and all that is its goes.
/// Asking again changes the moment. What stays are names and numbers that are never given again, ids, and the audit chain.
///
/// Scope: `admin`. The operator's own tenant answers 409 `operators_tenant`.
#[utoipa::path(
    post, path = "/tenants/{tenant}/erasure", tag = "tenants",
    params(TenantPath),
    request_body = RequestErasure,
    responses((status = 200, description = "The erasure", body = TenantErasure), Problems)
)]
pub(crate) async fn request_erasure(
    Serving(registry): Serving,
    caller: Caller,
    PathOf(path): PathOf<TenantPath>,
    Body(request): Body<RequestErasure>,
) -> Result<Json<TenantErasure>, RegistryError> {
    let due_at_ms = request.due_at.map(ms_of);
    Ok(Json(registry.request_erasure(&caller.0, &path.tenant, due_at_ms).await?.into()))
}
