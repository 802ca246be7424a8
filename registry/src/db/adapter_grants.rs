//! Table `adapter_grants`: which tenants may call whose shared and gated adapters.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, OnConflict};
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::TenantId;

use super::clock::clock_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "adapter_grants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub adapter_id: String,
    /// The tenant that may call it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    /// The adapter's.
    pub owner: String,
    /// The adapter's.
    pub name: String,
    pub expires_at_ms: Option<i64>,
    pub note: String,
    pub granted_at_ms: i64,
    pub granted_by: String,
    /// The request that it was granted for.
    pub request_id: Option<String>,
}
no_relations!();

pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    tenant: &TenantId,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id((adapter_id.to_owned(), tenant.to_string())).one(connection).await
}

/// When the grants end that these requests were approved with, by the requests' ids.
pub(crate) async fn ends_of(
    connection: &impl ConnectionTrait,
    request_ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<(String, Option<i64>)>, DbErr> {
    let of_requests = Entity::find().filter(Column::RequestId.is_in(request_ids));
    of_requests.select_only().columns([Column::RequestId, Column::ExpiresAtMs]).into_tuple().all(connection).await
}

/// How many grants of an adapter there are, expired ones included.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<u64, DbErr> {
    Entity::find().filter(Column::AdapterId.eq(adapter_id)).count(connection).await
}

/// The next `limit` grants of an adapter after that of the tenant with the id `after`, by the tenants' ids.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let after = Condition::all().add_option(after.map(|tenant| Column::TenantId.gt(tenant)));
    let of_adapter = Entity::find().filter(Column::AdapterId.eq(adapter_id)).filter(after);
    of_adapter.order_by_asc(Column::TenantId).limit(limit).all(connection).await
}

/// Writes a grant in the place of one to the same tenant.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    let again = OnConflict::columns([Column::AdapterId, Column::TenantId])
        .update_columns([Column::ExpiresAtMs, Column::Note, Column::GrantedAtMs, Column::GrantedBy, Column::RequestId])
        .to_owned();
    let insert = Entity::insert(row.into_active_model().reset_all()).on_conflict(again);
    insert.exec_without_returning(connection).await.map(|_| ())
}

pub(crate) async fn delete(connection: &impl ConnectionTrait, row: &Model) -> Result<(), DbErr> {
    Entity::delete_by_id((row.adapter_id.clone(), row.tenant_id.clone())).exec(connection).await.map(|_| ())
}

pub(crate) async fn delete_of_adapter(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::AdapterId.eq(adapter_id)).exec(connection).await.map(|_| ())
}

/// The grants to a tenant that hold now.
pub(super) fn held_by(connection: &impl ConnectionTrait, tenant: &TenantId) -> Condition {
    let lives = Expr::col((Entity, Column::ExpiresAtMs)).gt(clock_ms(connection));
    let holds = Condition::any().add(Expr::col((Entity, Column::ExpiresAtMs)).is_null()).add(lives);
    Condition::all().add(Expr::col((Entity, Column::TenantId)).eq(tenant.as_str())).add(holds)
}
