//! Table `sessions`: who is signed in.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::TenantId;

use super::clock::{clock_ms_ago, now_ms};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub secret_hash: Vec<u8>,
    pub person_id: String,
    pub tenant_id: Option<String>,
    pub is_confined: bool,
    pub signed_in_by: String,
    pub client: Option<String>,
    pub created_at_ms: i64,
    pub used_at_ms: i64,
    pub expires_at_ms: i64,
    pub ended_at_ms: Option<i64>,
}
no_relations!();

impl Model {
    /// Whether it was ended, was not used for `idle_ms`, or its time is over.
    pub(crate) fn is_over(&self, now_ms: i64, idle_ms: i64) -> bool {
        self.ended_at_ms.is_some() || self.expires_at_ms <= now_ms || self.used_at_ms <= now_ms - idle_ms
    }
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

pub(crate) async fn get(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// Those of a person that were not ended and whose time is not over, used last after `used_since_ms`: the newest `limit`,
/// newest first.
pub(crate) async fn of_person(
    connection: &impl ConnectionTrait,
    person_id: &str,
    used_since_ms: i64,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let query =
        Entity::find().filter(Column::PersonId.eq(person_id)).filter(live()).filter(Column::UsedAtMs.gt(used_since_ms));
    query.order_by_desc(Column::Id).limit(limit).all(connection).await
}

/// The ids of those of some persons that were not ended.
pub(crate) async fn ids_of_persons(
    connection: &impl ConnectionTrait,
    persons: impl IntoIterator<Item = &str>,
) -> Result<Vec<String>, DbErr> {
    let of_persons = Condition::all().add(Column::PersonId.is_in(persons));
    let query = Entity::find().select_only().column(Column::Id).filter(of_persons.add(live()));
    query.order_by_asc(Column::Id).into_tuple().all(connection).await
}

pub(crate) async fn note_use(connection: &impl ConnectionTrait, id: &str, at_ms: i64) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::UsedAtMs, at_ms.into()).filter(Column::Id.eq(id));
    update.exec(connection).await.map(|_| ())
}

/// Chooses the tenant that it acts for; answers whether it was not ended meanwhile.
pub(crate) async fn choose(connection: &impl ConnectionTrait, id: &str, tenant: &TenantId) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::TenantId, tenant.as_str().into())
        .filter(Column::Id.eq(id))
        .filter(Column::EndedAtMs.is_null());
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Ends sessions that were not ended.
pub(crate) async fn end(connection: &impl ConnectionTrait, ids: &[String]) -> Result<(), DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::EndedAtMs, now_ms().into())
        .filter(Column::Id.is_in(ids))
        .filter(Column::EndedAtMs.is_null());
    update.exec(connection).await.map(|_| ())
}

/// The ids of those that were ended less than `age` ago.
pub(crate) async fn ended_within(connection: &impl ConnectionTrait, age: Duration) -> Result<Vec<String>, DbErr> {
    let lately = Expr::col(Column::EndedAtMs).gte(clock_ms_ago(connection, age));
    Entity::find().select_only().column(Column::Id).filter(lately).into_tuple().all(connection).await
}

/// Removes those that were over `age` ago.
pub(crate) async fn delete_over(connection: &impl ConnectionTrait, age: Duration) -> Result<(), DbErr> {
    let before = || clock_ms_ago(connection, age);
    let is_over = Condition::any()
        .add(Expr::col(Column::ExpiresAtMs).lt(before()))
        .add(Expr::col(Column::EndedAtMs).lt(before()));
    Entity::delete_many().filter(is_over).exec(connection).await.map(|_| ())
}

/// Takes out of all sessions of a person what their browsers call themselves.
pub(crate) async fn forget_clients_of(connection: &impl ConnectionTrait, person_id: &str) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::Client, Expr::value(None::<String>));
    update.filter(Column::PersonId.eq(person_id)).exec(connection).await.map(|_| ())
}

fn live() -> Condition {
    Condition::all().add(Column::EndedAtMs.is_null()).add(Column::ExpiresAtMs.gt(now_ms()))
}
