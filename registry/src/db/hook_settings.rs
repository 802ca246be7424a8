//! Table `hook_settings`: what hooks read of a tenant, and who reads what they say.

use sea_orm::IntoActiveModel as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use souk_protocol::TenantId;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hook_settings")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    /// An object as JSON.
    pub variables: String,
    /// A list of tenants' ids as JSON.
    pub log_readers: String,
    pub updated_at_ms: i64,
}
no_relations!();

pub(crate) async fn of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(tenant.as_str()).one(connection).await
}

pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let again = OnConflict::column(Column::TenantId)
        .update_columns([Column::Variables, Column::LogReaders, Column::UpdatedAtMs])
        .to_owned();
    let insert = Entity::insert(row.into_active_model().reset_all()).on_conflict(again);
    insert.exec_without_returning(connection).await.map(|_| ())
}
