//! Table `tenant_erasures`: tenants that are to be erased, or were.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{IntoActiveModel as _, QueryOrder as _};
use souk_protocol::TenantId;

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tenant_erasures")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    pub requested_by: String,
    pub requested_at_ms: i64,
    pub due_at_ms: i64,
    pub done_at_ms: Option<i64>,
}
no_relations!();

pub(crate) async fn get(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(tenant.as_str()).one(connection).await
}

impl Model {
    pub(crate) fn tenant(&self) -> TenantId {
        TenantId::from_stored(&self.tenant_id)
    }
}

/// Notes a request, in the place of one that was made before.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let columns = [Column::RequestedBy, Column::RequestedAtMs, Column::DueAtMs];
    let again = OnConflict::column(Column::TenantId).update_columns(columns).to_owned();
    let insert = Entity::insert(row.into_active_model().reset_all()).on_conflict(again);
    insert.exec_without_returning(connection).await.map(|_| ())
}

/// Takes a request back that was not carried out; answers whether there was one.
pub(crate) async fn delete(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<bool, DbErr> {
    let open = Entity::delete_many().filter(Column::TenantId.eq(tenant.as_str())).filter(Column::DoneAtMs.is_null());
    Ok(open.exec(connection).await?.rows_affected > 0)
}

/// Whether a tenant was erased, or is being erased now.
pub(crate) async fn has_begun(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<bool, DbErr> {
    Ok(get(connection, tenant).await?.is_some_and(|row| row.done_at_ms.is_some() || row.due_at_ms <= now_ms()))
}

/// The request that is due for the longest time.
pub(crate) async fn first_due(connection: &impl ConnectionTrait) -> Result<Option<Model>, DbErr> {
    let due = Entity::find().filter(Column::DoneAtMs.is_null()).filter(Column::DueAtMs.lte(now_ms()));
    due.order_by_asc(Column::DueAtMs).one(connection).await
}

/// Notes that a request was carried out; answers whether it still was to be.
pub(crate) async fn note_done(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<bool, DbErr> {
    let update = Entity::update_many().col_expr(Column::DoneAtMs, now_ms().into());
    let open = update.filter(Column::TenantId.eq(tenant.as_str())).filter(Column::DoneAtMs.is_null());
    Ok(open.exec(connection).await?.rows_affected > 0)
}
