//! Table `pipelines`: the steps that tenants attached, a row for each change of a target. The last is the current one.

use sea_orm::entity::prelude::*;
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::TenantId;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "pipelines")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub target: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub is_current: i64,
    /// JSON.
    pub steps: String,
    /// The number that it is a copy of.
    pub restored: Option<i64>,
    pub made_by: String,
    pub made_at_ms: i64,
}
no_relations!();

/// The current pipelines of a tenant at these targets.
pub(crate) async fn current(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    targets: impl IntoIterator<Item = String>,
) -> Result<Vec<Model>, DbErr> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant.as_str()));
    of_tenant.filter(Column::Target.is_in(targets)).filter(Column::IsCurrent.eq(1)).all(connection).await
}

/// The next current pipelines of a tenant after the target `after`, by their targets.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut of_tenant = Entity::find().filter(Column::TenantId.eq(tenant.as_str())).filter(Column::IsCurrent.eq(1));
    if let Some(after) = after {
        of_tenant = of_tenant.filter(Column::Target.gt(after));
    }
    of_tenant.order_by_asc(Column::Target).limit(limit).all(connection).await
}

/// How many targets of a tenant have one.
pub(crate) async fn count_of(connection: &impl ConnectionTrait, tenant: &TenantId) -> Result<u64, DbErr> {
    let of_tenant = Entity::find().filter(Column::TenantId.eq(tenant.as_str()));
    of_tenant.filter(Column::IsCurrent.eq(1)).count(connection).await
}

/// The pipelines that a target had before the number `before`, the last first.
pub(crate) async fn history(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    target: &str,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut of_target = Entity::find().filter(Column::TenantId.eq(tenant.as_str())).filter(Column::Target.eq(target));
    if let Some(before) = before {
        of_target = of_target.filter(Column::Number.lt(before));
    }
    of_target.order_by_desc(Column::Number).limit(limit).all(connection).await
}

/// The pipeline that a target had under this number.
pub(crate) async fn numbered(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    target: &str,
    number: i64,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id((tenant.to_string(), target.to_owned(), number)).one(connection).await
}

/// Writes a pipeline in the place of the one before, and forgets those of its target that are older than `kept` numbers.
pub(crate) async fn put(connection: &impl ConnectionTrait, row: Model, kept: i64) -> Result<(), DbErr> {
    let of_target = || Condition::all().add(Column::TenantId.eq(&row.tenant_id)).add(Column::Target.eq(&row.target));
    let update = Entity::update_many().col_expr(Column::IsCurrent, 0_i64.into()).filter(of_target());
    update.exec(connection).await?;
    let old = Entity::delete_many().filter(of_target()).filter(Column::Number.lte(row.number - kept));
    old.exec(connection).await?;
    Entity::insert(row.into_active_model().reset_all()).exec_without_returning(connection).await.map(|_| ())
}

/// Gives the key that takes another's place what acts on that one's requests.
pub(crate) async fn copy_of_key(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    from: &str,
    to: &str,
) -> Result<(), DbErr> {
    let Some(row) = current(connection, tenant, [format!("key/{from}")]).await?.pop() else { return Ok(()) };
    let row = Model { target: format!("key/{to}"), number: 1, restored: None, ..row };
    Entity::insert(row.into_active_model().reset_all()).exec_without_returning(connection).await.map(|_| ())
}
