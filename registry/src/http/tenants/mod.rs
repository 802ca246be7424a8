//! Tenants: who owns adapters and keys. The operator makes them.

mod create_tenant;
mod list_tenants;

use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, Set,
};
use serde::Serialize;
use souk_protocol::TenantId;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::db::entities::tenant;
use crate::db::{moment, now_ms};

pub(crate) use create_tenant::*;
pub(crate) use list_tenants::*;

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

impl From<tenant::Model> for Tenant {
    fn from(row: tenant::Model) -> Self {
        Self { id: row.id, name: row.name, created_at: moment(row.created_at_ms) }
    }
}

pub(crate) async fn tenant_by_name(
    connection: &impl ConnectionTrait,
    name: &str,
) -> Result<Option<tenant::Model>, DbErr> {
    tenant::Entity::find().filter(tenant::Column::Name.eq(name)).one(connection).await
}

pub(crate) async fn insert_tenant(connection: &impl ConnectionTrait, name: &str) -> Result<tenant::Model, DbErr> {
    let row = tenant::ActiveModel {
        id: Set(TenantId::new().to_string()),
        name: Set(name.to_owned()),
        created_at_ms: Set(now_ms()),
    };
    row.insert(connection).await
}
