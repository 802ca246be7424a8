//! Table `teams`: some members and keys of a tenant, with limits of their own.

use sea_orm::entity::prelude::*;
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _, Set};
use souk_protocol::{TeamId, TenantId};

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "teams")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub tenant_id: String,
    pub name: String,
    pub created_at_ms: i64,
}
no_relations!();

impl Model {
    pub(crate) fn team(&self) -> TeamId {
        TeamId::from_stored(&self.id)
    }
}

/// A team of a tenant; another's is not found.
pub(crate) async fn of_tenant(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    id: &str,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).filter(Column::TenantId.eq(tenant.as_str())).one(connection).await
}

/// Those of these teams that a tenant has.
pub(crate) async fn among(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    ids: &[String],
) -> Result<Vec<Model>, DbErr> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant.as_str()));
    of_tenant.filter(Column::Id.is_in(ids)).all(connection).await
}

/// How many teams a tenant has.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<u64, DbErr> {
    Entity::find().filter(Column::TenantId.eq(tenant.as_str())).count(connection).await
}

/// The next `limit` teams of a tenant after the name `after`, by name.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let after = Condition::all().add_option(after.map(|name| Column::Name.gt(name)));
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant.as_str())).filter(after);
    of_tenant.order_by_asc(Column::Name).limit(limit).all(connection).await
}

/// A unique violation says that the tenant has a team of that name.
pub(crate) async fn insert(connection: &impl ConnectionTrait, tenant: &TenantId, name: &str) -> Result<Model, DbErr> {
    let row = ActiveModel {
        id: Set(TeamId::new().to_string()),
        tenant_id: Set(tenant.to_string()),
        name: Set(name.to_owned()),
        created_at_ms: Set(now_ms()),
    };
    row.insert(connection).await
}

pub(crate) async fn delete(connection: &impl ConnectionTrait, id: &str) -> Result<(), DbErr> {
    Entity::delete_by_id(id).exec(connection).await.map(|_| ())
}
