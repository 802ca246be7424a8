//! Table `idempotent_requests`: claims of running calls, and answers that are kept. `claim` names one taking of a key
//! and is the fence: only the claim that has the row keeps an answer in it.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{Condition, Set};

use super::clock::{clock_ms, clock_ms_in, now_ms};
use super::connection::is_unique_violation;

/// How long an answer is kept.
const KEPT_FOR_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotent_requests")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub route: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub idempotency_key: String,
    pub body_digest: Option<String>,
    pub status: Option<i32>,
    pub response: Option<String>,
    pub created_at_ms: i64,
    pub claim: Option<String>,
    pub lease_expires_at_ms: Option<i64>,
    /// Of the first request's key; `None`: an older program took it.
    pub scopes: Option<String>,
}
no_relations!();

/// What a key belongs to, and the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) tenant_id: String,
    /// The method and the path as called.
    pub(crate) route: String,
    /// What the caller chose.
    pub(crate) key: String,
}

/// Takes the key under the name `claim`, for who has `scopes`; answers whether it was free.
pub(crate) async fn insert(
    connection: &impl ConnectionTrait,
    name: &Name,
    claim: &str,
    scopes: &str,
    lease: Duration,
) -> Result<bool, DbErr> {
    let insert = Entity::insert(ActiveModel {
        tenant_id: Set(name.tenant_id.clone()),
        route: Set(name.route.clone()),
        idempotency_key: Set(name.key.clone()),
        body_digest: Set(None),
        status: Set(None),
        response: Set(None),
        created_at_ms: Set(now_ms()),
        claim: Set(Some(claim.to_owned())),
        // No lease is not a lapsed one; the next statement gives it its end.
        lease_expires_at_ms: Set(None),
        scopes: Set(Some(scopes.to_owned())),
    });
    match insert.exec_without_returning(connection).await {
        Ok(_) => renew(connection, claim, name, lease).await,
        Err(error) if is_unique_violation(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) async fn get(connection: &impl ConnectionTrait, name: &Name) -> Result<Option<Model>, DbErr> {
    let id = (name.tenant_id.clone(), name.route.clone(), name.key.clone());
    Entity::find_by_id(id).one(connection).await
}

/// Puts the end of the lease off; answers whether the claim still is.
pub(crate) async fn renew(
    connection: &impl ConnectionTrait,
    claim: &str,
    name: &Name,
    lease: Duration,
) -> Result<bool, DbErr> {
    let update = Entity::update_many().col_expr(Column::LeaseExpiresAtMs, clock_ms_in(connection, lease));
    Ok(update.filter(open(name, claim)).exec(connection).await?.rows_affected > 0)
}

/// Turns the claim into a kept answer; answers whether the claim still was.
pub(crate) async fn keep(
    connection: &impl ConnectionTrait,
    name: &Name,
    claim: &str,
    body_digest: &str,
    status: u16,
    response: &str,
) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::BodyDigest, body_digest.into())
        .col_expr(Column::Status, i32::from(status).into())
        .col_expr(Column::Response, response.into())
        .col_expr(Column::LeaseExpiresAtMs, Option::<i64>::None.into())
        .filter(open(name, claim));
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Sets the key free, unless an answer was kept.
pub(crate) async fn release(connection: &impl ConnectionTrait, name: &Name, claim: &str) -> Result<(), DbErr> {
    Entity::delete_many().filter(open(name, claim)).exec(connection).await.map(|_| ())
}

/// Claims whose lease has lapsed.
pub(crate) async fn lapsed(connection: &impl ConnectionTrait) -> Result<Vec<Model>, DbErr> {
    Entity::find()
        .filter(Column::Status.is_null())
        .filter(Expr::col(Column::LeaseExpiresAtMs).lt(clock_ms(connection)))
        .all(connection)
        .await
}

/// Sets the key of a lapsed claim free, unless its lease was renewed since `row` was read; answers whether it did.
pub(crate) async fn delete_lapsed(connection: &impl ConnectionTrait, row: &Model) -> Result<bool, DbErr> {
    let deleted = Entity::delete_many()
        .filter(Column::TenantId.eq(&row.tenant_id))
        .filter(Column::Route.eq(&row.route))
        .filter(Column::IdempotencyKey.eq(&row.idempotency_key))
        .filter(Column::Status.is_null())
        .filter(Column::LeaseExpiresAtMs.eq(row.lease_expires_at_ms))
        .exec(connection)
        .await?;
    Ok(deleted.rows_affected > 0)
}

/// Forgets answers that were kept for long enough. Claims are no answers.
pub(crate) async fn delete_old(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let old = Entity::delete_many().filter(Column::CreatedAtMs.lt(now_ms() - KEPT_FOR_MS));
    old.filter(Column::Status.is_not_null()).exec(connection).await.map(|_| ())
}

fn open(name: &Name, claim: &str) -> Condition {
    Condition::all()
        .add(Column::TenantId.eq(&name.tenant_id))
        .add(Column::Route.eq(&name.route))
        .add(Column::IdempotencyKey.eq(&name.key))
        .add(Column::Status.is_null())
        .add(Column::Claim.eq(claim))
}
