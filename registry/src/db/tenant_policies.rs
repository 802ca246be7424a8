//! Table `tenant_policies`: what a tenant says of its keys. A tenant without a row says nothing.

use sea_orm::IntoActiveModel as _;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use souk_protocol::TenantId;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_policies")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    /// Days that a key lives at most; `None`: no bound.
    pub max_key_days: Option<i64>,
    /// What keys may do, names with spaces between; `None`: whatever their makers may.
    pub scopes: Option<String>,
    /// 1 if persons may have keys of their own, else 0.
    pub personal_keys: i64,
    pub updated_at_ms: i64,
}
no_relations!();

pub(crate) async fn of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(tenant.as_str()).one(connection).await
}

/// Writes a policy in the place of the one before.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let again = OnConflict::column(Column::TenantId)
        .update_columns([Column::MaxKeyDays, Column::Scopes, Column::PersonalKeys, Column::UpdatedAtMs])
        .to_owned();
    let insert = Entity::insert(row.into_active_model().reset_all()).on_conflict(again);
    insert.exec_without_returning(connection).await.map(|_| ())
}
