//! Table `services`.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{IntoActiveModel as _, QueryOrder as _, QuerySelect as _};

use super::clock::{clock_ms_ago, now_ms};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "services")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub name: String,
    pub secret_hash: Vec<u8>,
    pub pepper_version: i32,
    pub created_at_ms: i64,
    pub made_by: String,
    pub revoked_at_ms: Option<i64>,
    pub revoked_by: Option<String>,
    pub kind: Option<String>,
}
no_relations!();

pub(crate) async fn get(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

pub(crate) async fn by_ids(connection: &impl ConnectionTrait, ids: &[String]) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::Id.is_in(ids)).all(connection).await
}

/// The next `limit` after the id `after`, by id.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    after: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().order_by_asc(Column::Id).limit(limit);
    if let Some(id) = after {
        query = query.filter(Column::Id.gt(id));
    }
    query.all(connection).await
}

/// How many are not revoked.
pub(crate) async fn count_usable(connection: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().filter(Column::RevokedAtMs.is_null()).count(connection).await
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

/// Revokes one that was not revoked, for whoever asks with the key `by`; answers whether it did.
pub(crate) async fn revoke(connection: &impl ConnectionTrait, id: &str, by: Option<&str>) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::RevokedAtMs, now_ms().into())
        .col_expr(Column::RevokedBy, by.into())
        .filter(Column::Id.eq(id))
        .filter(Column::RevokedAtMs.is_null());
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// The ids of those that were revoked less than `age` ago.
pub(crate) async fn revoked_within(connection: &impl ConnectionTrait, age: Duration) -> Result<Vec<String>, DbErr> {
    let lately = Expr::col(Column::RevokedAtMs).gte(clock_ms_ago(connection, age));
    Entity::find().select_only().column(Column::Id).filter(lately).into_tuple().all(connection).await
}
