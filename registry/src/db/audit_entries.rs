//! Table `audit_entries`: who changed what, one chain for each tenant.

use sea_orm::entity::prelude::*;
use sea_orm::{IntoActiveModel as _, QueryOrder as _, QuerySelect as _, QueryTrait as _};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub at_ms: i64,
    pub actor_kind: String,
    pub actor_id: String,
    pub actor_key: Option<String>,
    pub action: String,
    pub subject: String,
    pub details: String,
    pub hash: String,
}
no_relations!();

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    Entity::insert(row.into_active_model()).exec_without_returning(connection).await.map(|_| ())
}

/// Entries of a chain below a number, the highest first.
pub(crate) async fn below(
    connection: &impl ConnectionTrait,
    chain: &str,
    below: Option<i64>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().filter(Column::TenantId.eq(chain)).order_by_desc(Column::Number).limit(limit);
    if let Some(number) = below {
        query = query.filter(Column::Number.lt(number));
    }
    query.all(connection).await
}

/// Entries of a chain above a number and up to another, the lowest first.
pub(crate) async fn above(
    connection: &impl ConnectionTrait,
    chain: &str,
    above: i64,
    up_to: i64,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let of_chain = Entity::find().filter(Column::TenantId.eq(chain)).filter(Column::Number.gt(above));
    of_chain.filter(Column::Number.lte(up_to)).order_by_asc(Column::Number).limit(limit).all(connection).await
}

/// The lowest number that is left of a chain.
pub(crate) async fn lowest(connection: &impl ConnectionTrait, chain: &str) -> Result<Option<i64>, DbErr> {
    let lowest = Entity::find().select_only().column(Column::Number).filter(Column::TenantId.eq(chain));
    lowest.order_by_asc(Column::Number).into_tuple().one(connection).await
}

/// Removes at most `limit` entries of a chain up to a number, the lowest first; answers how many.
pub(crate) async fn delete_some(
    connection: &impl ConnectionTrait,
    chain: &str,
    up_to: i64,
    limit: u64,
) -> Result<u64, DbErr> {
    let of_chain = Entity::find().select_only().column(Column::Number).filter(Column::TenantId.eq(chain));
    let some = of_chain.filter(Column::Number.lte(up_to)).order_by_asc(Column::Number).limit(limit);
    let deleted = Entity::delete_many()
        .filter(Column::TenantId.eq(chain))
        .filter(Column::Number.in_subquery(some.into_query()))
        .exec(connection)
        .await?;
    Ok(deleted.rows_affected)
}
