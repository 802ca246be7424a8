//! Tenants: who owns adapters and keys. The operator makes them.

mod cancel_erasure;
mod create_tenant;
mod export_tenant;
mod list_tenants;
mod request_erasure;

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::db::{TenantRow, moment};

pub(crate) use cancel_erasure::*;
pub(crate) use create_tenant::*;
pub(crate) use export_tenant::*;
pub(crate) use list_tenants::*;
pub(crate) use request_erasure::*;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Tenant {
    /// Opaque id.
    id: String,
    /// The owner half of its adapters' names.
    name: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

impl From<TenantRow> for Tenant {
    fn from(row: TenantRow) -> Self {
        Self { id: row.id, name: row.name, created_at: moment(row.created_at_ms) }
    }
}
