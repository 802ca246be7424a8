//! Table `withdrawals`: what has just been withdrawn, for registries in other processes, and for the one that withdrew it
//! where it did not come to tell.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{QueryOrder as _, QuerySelect as _, Set};

use super::clock::{clock_ms_ago, now_ms};
use super::connection::MAX_IN;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "withdrawals")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub kind: String,
    pub subject: String,
    pub told_by: String,
    pub withdrawn_at_ms: i64,
    /// `owner/name`, where a tenant may call an adapter no more.
    pub adapter: Option<String>,
}
no_relations!();

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct New {
    pub(crate) kind: &'static str,
    pub(crate) subject: String,
    pub(crate) adapter: Option<String>,
}

/// Notes withdrawals in the transaction that makes them. It excludes all others, so that the numbers are
/// in the order of the commits and who asks for those after the last it saw misses none.
pub(crate) async fn insert_all(
    connection: &impl ConnectionTrait,
    told_by: &str,
    withdrawals: impl IntoIterator<Item = New>,
) -> Result<(), DbErr> {
    let rows = withdrawals.into_iter().map(|New { kind, subject, adapter }| ActiveModel {
        kind: Set(kind.to_owned()),
        subject: Set(subject),
        adapter: Set(adapter),
        told_by: Set(told_by.to_owned()),
        withdrawn_at_ms: Set(now_ms()),
        ..Default::default()
    });
    let rows: Vec<_> = rows.collect();
    for some in rows.chunks(MAX_IN) {
        Entity::insert_many(some.iter().cloned()).exec_without_returning(connection).await?;
    }
    Ok(())
}

/// The number of the newest; 0 if there is none.
pub(crate) async fn newest(connection: &impl ConnectionTrait) -> Result<i64, DbErr> {
    let query = Entity::find().select_only().column(Column::Id).order_by_desc(Column::Id);
    Ok(query.into_tuple::<i64>().one(connection).await?.unwrap_or(0))
}

/// The number of the oldest that is kept; `None` if there is none.
pub(crate) async fn oldest(connection: &impl ConnectionTrait) -> Result<Option<i64>, DbErr> {
    Entity::find().select_only().column(Column::Id).order_by_asc(Column::Id).into_tuple::<i64>().one(connection).await
}

/// At most `limit` withdrawals after the one with the number `after`, oldest first.
pub(crate) async fn after(connection: &impl ConnectionTrait, after: i64, limit: u64) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.gt(after)).order_by_asc(Column::Id).limit(limit).all(connection).await
}

/// Accesses to adapters that were withdrawn less than `age` ago, oldest first.
pub(crate) async fn accesses_within(connection: &impl ConnectionTrait, age: Duration) -> Result<Vec<Model>, DbErr> {
    let lately = Expr::col(Column::WithdrawnAtMs).gte(clock_ms_ago(connection, age));
    let query = Entity::find().filter(Column::Adapter.is_not_null()).filter(lately);
    query.order_by_asc(Column::Id).all(connection).await
}

/// Removes what is older than `age`.
pub(crate) async fn delete_older(connection: &impl ConnectionTrait, age: Duration) -> Result<(), DbErr> {
    let old = Expr::col(Column::WithdrawnAtMs).lt(clock_ms_ago(connection, age));
    Entity::delete_many().filter(old).exec(connection).await.map(|_| ())
}
