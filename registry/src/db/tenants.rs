//! Table `tenants`.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use souk_protocol::TenantId;

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub name: String,
    pub created_at_ms: i64,
}
no_relations!();

pub(crate) async fn named(connection: &impl ConnectionTrait, name: &str) -> Result<Option<Model>, DbErr> {
    Entity::find().filter(Column::Name.eq(name)).one(connection).await
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, name: &str) -> Result<Model, DbErr> {
    let row =
        ActiveModel { id: Set(TenantId::new().to_string()), name: Set(name.to_owned()), created_at_ms: Set(now_ms()) };
    row.insert(connection).await
}

/// The next `limit` tenants after the name `after`, by name.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().order_by_asc(Column::Name).limit(limit);
    if let Some(name) = after {
        query = query.filter(Column::Name.gt(name));
    }
    query.all(connection).await
}
