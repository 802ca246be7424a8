//! Table `blobs`: what is known of an object beside the rows that refer to it. Who begins to rely on a blob and who
//! removes it lock its row first, so that neither acts on what the other is changing.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{ExprTrait as _, OnConflict, Query};
use sea_orm::{QuerySelect as _, Set};

use super::clock::{clock_ms, clock_ms_ago};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "blobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub digest: String,
    pub released_at_ms: Option<i64>,
    pub orphaned_at_ms: Option<i64>,
}
no_relations!();

/// Locks the rows of blobs that are about to be referred to, making those that are not there, and takes back what was
/// said of them before. In the order of their digests, so that two uploads cannot wait for each other.
pub(crate) async fn rely_on(connection: &impl ConnectionTrait, digests: &[String]) -> Result<(), DbErr> {
    let mut digests = digests.to_vec();
    digests.sort();
    digests.dedup();
    for digest in digests {
        let row = ActiveModel { digest: Set(digest), released_at_ms: Set(None), orphaned_at_ms: Set(None) };
        let again =
            OnConflict::column(Column::Digest).update_columns([Column::ReleasedAtMs, Column::OrphanedAtMs]).to_owned();
        Entity::insert(row).on_conflict(again).exec_without_returning(connection).await?;
    }
    Ok(())
}

/// Notes that a reference to each of `digests` ended, in the transaction that ends it.
pub(crate) async fn release(connection: &impl ConnectionTrait, digests: &[String]) -> Result<(), DbErr> {
    let mut digests = digests.to_vec();
    digests.sort();
    digests.dedup();
    for digest in digests {
        let row = ActiveModel { digest: Set(digest.clone()), released_at_ms: Set(None), orphaned_at_ms: Set(None) };
        let is_there = OnConflict::column(Column::Digest).update_column(Column::Digest).to_owned();
        Entity::insert(row).on_conflict(is_there).exec_without_returning(connection).await?;
        let update = Entity::update_many().col_expr(Column::ReleasedAtMs, clock_ms(connection));
        update.filter(Column::Digest.eq(digest)).exec(connection).await?;
    }
    Ok(())
}

/// At most `limit` blobs to which a reference ended at least `age` ago.
pub(crate) async fn released(
    connection: &impl ConnectionTrait,
    age: Duration,
    limit: u64,
) -> Result<Vec<String>, DbErr> {
    let released = Expr::col(Column::ReleasedAtMs).lte(clock_ms_ago(connection, age));
    let query = Entity::find().select_only().column(Column::Digest).filter(released);
    query.limit(limit).into_tuple().all(connection).await
}

/// Locks a blob's row; answers whether there is one.
pub(crate) async fn lock(connection: &impl ConnectionTrait, digest: &str) -> Result<bool, DbErr> {
    Ok(Entity::find_by_id(digest).lock_exclusive().one(connection).await?.is_some())
}

/// Notes that a blob is in use after all.
pub(crate) async fn keep(connection: &impl ConnectionTrait, digest: &str) -> Result<(), DbErr> {
    Entity::update_many()
        .col_expr(Column::ReleasedAtMs, Option::<i64>::None.into())
        .col_expr(Column::OrphanedAtMs, Option::<i64>::None.into())
        .filter(Column::Digest.eq(digest))
        .exec(connection)
        .await?;
    Ok(())
}

pub(crate) async fn delete(connection: &impl ConnectionTrait, digest: &str) -> Result<(), DbErr> {
    Entity::delete_by_id(digest).exec(connection).await.map(|_| ())
}

/// Notes that the object was found without a reference to it, unless that was noted before; answers whether it was
/// noted for the first time. One statement: a registry that is killed leaves no row that says nothing, which nobody
/// would remove when the object is gone meanwhile.
pub(crate) async fn note_orphan(connection: &impl ConnectionTrait, digest: &str) -> Result<bool, DbErr> {
    let first = OnConflict::column(Column::Digest)
        .value(Column::OrphanedAtMs, clock_ms(connection))
        .action_and_where(Expr::col((Entity, Column::OrphanedAtMs)).is_null())
        .to_owned();
    let insert = Query::insert()
        .into_table(Entity)
        .columns([Column::Digest, Column::OrphanedAtMs])
        .values_panic([digest.into(), clock_ms(connection)])
        .on_conflict(first)
        .to_owned();
    Ok(connection.execute(&insert).await?.rows_affected() > 0)
}

/// The blobs noted as orphans whose digests begin with the byte `shard`.
pub(crate) async fn orphans_in(connection: &impl ConnectionTrait, shard: u8) -> Result<Vec<String>, DbErr> {
    let prefix = format!("sha256:{shard:02x}");
    let query = Entity::find().select_only().column(Column::Digest).filter(Column::OrphanedAtMs.is_not_null());
    // Behind all hex digits comes `g`.
    let within = query.filter(Column::Digest.gte(prefix.clone())).filter(Column::Digest.lt(format!("{prefix}g")));
    within.into_tuple().all(connection).await
}

/// Whether the object was first found without a reference at least `age` ago.
pub(crate) async fn is_old_orphan(
    connection: &impl ConnectionTrait,
    digest: &str,
    age: Duration,
) -> Result<bool, DbErr> {
    let query = Entity::find_by_id(digest).filter(Expr::col(Column::OrphanedAtMs).lte(clock_ms_ago(connection, age)));
    Ok(query.one(connection).await?.is_some())
}
