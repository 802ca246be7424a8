//! Table `hook_grants`: which tenants may attach whose shared hooks.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::OnConflict;
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hook_grants")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub hook_id: String,
    /// The tenant that may attach it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    /// The hook's.
    pub owner: String,
    /// The hook's.
    pub name: String,
    pub granted_at_ms: i64,
    pub granted_by: String,
}
no_relations!();

/// How many grants of a hook there are.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, hook_id: &str) -> Result<u64, DbErr> {
    Entity::find().filter(Column::HookId.eq(hook_id)).count(connection).await
}

/// The next `limit` grants of a hook after that of the tenant with the id `after`, by the tenants' ids.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    hook_id: &str,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let after = Condition::all().add_option(after.map(|tenant| Column::TenantId.gt(tenant)));
    let of_hook = Entity::find().filter(Column::HookId.eq(hook_id)).filter(after);
    of_hook.order_by_asc(Column::TenantId).limit(limit).all(connection).await
}

/// Answers whether it is a new one.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: &Model) -> Result<bool, DbErr> {
    let is_there = OnConflict::columns([Column::HookId, Column::TenantId]).do_nothing().to_owned();
    let insert = Entity::insert(row.clone().into_active_model().reset_all()).on_conflict(is_there);
    Ok(insert.exec_without_returning(connection).await? > 0)
}

pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    hook_id: &str,
    tenant_id: &str,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id((hook_id.to_owned(), tenant_id.to_owned())).one(connection).await
}

/// Answers whether there was one.
pub(crate) async fn delete(connection: &impl ConnectionTrait, hook_id: &str, tenant_id: &str) -> Result<bool, DbErr> {
    let id = (hook_id.to_owned(), tenant_id.to_owned());
    Ok(Entity::delete_by_id(id).exec(connection).await?.rows_affected > 0)
}

pub(crate) async fn delete_of_hook(connection: &impl ConnectionTrait, hook_id: &str) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::HookId.eq(hook_id)).exec(connection).await.map(|_| ())
}
