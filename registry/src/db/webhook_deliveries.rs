//! Table `webhook_deliveries`: an event on its way to an endpoint. `due_at_ms` is when it is to be tried next, by the
//! database's clock; who claims it puts that off by a lease, and has it for as long. `claim` names one claiming and is the
//! fence: only the claim that has the row says what came of it.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{QueryOrder as _, QuerySelect as _, QueryTrait as _, Set};
use souk_protocol::TenantId;
use uuid::Uuid;

use super::clock::{clock_ms, clock_ms_in, now_ms};
use super::webhook_endpoints::{self, ENABLED};

/// The states of a delivery.
pub(crate) const PENDING: &str = "pending";
/// The endpoint took it.
pub(crate) const DELIVERED: &str = "delivered";
/// It was given up.
pub(crate) const DEAD: &str = "dead";

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_deliveries")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub tenant_id: String,
    pub endpoint_id: String,
    pub event_id: String,
    /// The delivery that this one repeats.
    pub replay_of: Option<String>,
    pub state: String,
    /// Tries that were begun.
    pub num_attempts: i32,
    pub due_at_ms: i64,
    pub claim: Option<String>,
    pub created_at_ms: i64,
    pub attempted_at_ms: Option<i64>,
    pub ended_at_ms: Option<i64>,
    /// Of the last answer.
    pub answer_status: Option<i32>,
    /// What the last answer begins with.
    pub answer_excerpt: Option<String>,
    /// Why the last try failed.
    pub failure: Option<String>,
}
no_relations!();

/// What came of a try.
pub(crate) struct Attempt {
    pub(crate) answer_status: Option<i32>,
    pub(crate) answer_excerpt: Option<String>,
    pub(crate) failure: Option<&'static str>,
    pub(crate) next: Next,
}

/// What comes after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing: the endpoint took it.
    Delivered,
    /// Nothing: it is given up.
    Dead,
    /// Another, after this time.
    Again(Duration),
}

/// A delivery of an event that is due at once; answers its id.
pub(crate) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    endpoint_id: &str,
    event_id: &str,
    replay_of: Option<&str>,
) -> Result<String, DbErr> {
    let id = format!("dlv_{}", Uuid::now_v7().simple());
    let row = ActiveModel {
        id: Set(id.clone()),
        tenant_id: Set(tenant.to_string()),
        endpoint_id: Set(endpoint_id.to_owned()),
        event_id: Set(event_id.to_owned()),
        replay_of: Set(replay_of.map(str::to_owned)),
        state: Set(PENDING.to_owned()),
        num_attempts: Set(0),
        due_at_ms: Set(0),
        created_at_ms: Set(now_ms()),
        ..Default::default()
    };
    Entity::insert(row).exec_without_returning(connection).await?;
    Ok(id)
}

/// Enabled endpoints that something is due for, each with its tenant.
pub(crate) async fn endpoints_with_due(connection: &impl ConnectionTrait) -> Result<Vec<(String, String)>, DbErr> {
    let of_endpoint = Expr::col((Entity, Column::EndpointId));
    let due = due(connection)
        .select_only()
        .column(Column::Id)
        .filter(of_endpoint.equals((webhook_endpoints::Entity, webhook_endpoints::Column::Id)));
    webhook_endpoints::Entity::find()
        .select_only()
        .columns([webhook_endpoints::Column::TenantId, webhook_endpoints::Column::Id])
        .filter(webhook_endpoints::Column::State.eq(ENABLED))
        .filter(Expr::exists(due.into_query()))
        .order_by_asc(webhook_endpoints::Column::Id)
        .into_tuple()
        .all(connection)
        .await
}

/// What is due for an endpoint for the longest time.
pub(crate) async fn first_due(connection: &impl ConnectionTrait, endpoint_id: &str) -> Result<Option<Model>, DbErr> {
    let of_endpoint = due(connection).filter(Column::EndpointId.eq(endpoint_id));
    of_endpoint.order_by_asc(Column::DueAtMs).order_by_asc(Column::Id).one(connection).await
}

/// Takes a delivery that was seen due, for as long as `lease`; answers whether nobody else did before.
pub(crate) async fn take(
    connection: &impl ConnectionTrait,
    seen: &Model,
    claim: &str,
    lease: Duration,
) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::Claim, claim.into())
        .col_expr(Column::DueAtMs, clock_ms_in(connection, lease))
        .col_expr(Column::NumAttempts, Expr::col(Column::NumAttempts).add(1))
        .col_expr(Column::AttemptedAtMs, now_ms().into())
        .filter(Column::Id.eq(&seen.id))
        .filter(Column::State.eq(PENDING))
        .filter(Column::DueAtMs.eq(seen.due_at_ms))
        // The one before may have been taken at the same millisecond.
        .filter(Column::NumAttempts.eq(seen.num_attempts));
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Notes what came of a try, unless the claim was another's by then; answers whether it was not.
pub(crate) async fn settle(
    connection: &impl ConnectionTrait,
    id: &str,
    claim: &str,
    attempt: Attempt,
) -> Result<bool, DbErr> {
    let (state, due_in) = match attempt.next {
        Next::Delivered => (DELIVERED, Duration::ZERO),
        Next::Dead => (DEAD, Duration::ZERO),
        Next::Again(after) => (PENDING, after),
    };
    let ended_at_ms = (state != PENDING).then(now_ms);
    let update = Entity::update_many()
        .col_expr(Column::State, state.into())
        .col_expr(Column::Claim, Option::<String>::None.into())
        .col_expr(Column::DueAtMs, clock_ms_in(connection, due_in))
        .col_expr(Column::EndedAtMs, ended_at_ms.into())
        .col_expr(Column::AnswerStatus, attempt.answer_status.into())
        .col_expr(Column::AnswerExcerpt, attempt.answer_excerpt.into())
        .col_expr(Column::Failure, attempt.failure.map(str::to_owned).into())
        .filter(Column::Id.eq(id))
        .filter(Column::Claim.eq(claim));
    Ok(update.exec(connection).await?.rows_affected > 0)
}

/// Deliveries to an endpoint below the id `below`, the newest first; in this state alone, if one is given.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    endpoint_id: &str,
    state: Option<&str>,
    below: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let mut query = Entity::find().filter(Column::EndpointId.eq(endpoint_id)).order_by_desc(Column::Id).limit(limit);
    if let Some(state) = state {
        query = query.filter(Column::State.eq(state));
    }
    if let Some(id) = below {
        query = query.filter(Column::Id.lt(id));
    }
    query.all(connection).await
}

/// A delivery to this endpoint.
pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    endpoint_id: &str,
    id: &str,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).filter(Column::EndpointId.eq(endpoint_id)).one(connection).await
}

/// Removes the deliveries of these events.
pub(crate) async fn delete_of_events(connection: &impl ConnectionTrait, events: &[String]) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::EventId.is_in(events)).exec(connection).await.map(|_| ())
}

/// Removes at most `limit` deliveries to an endpoint; answers how many.
pub(crate) async fn delete_some_of(
    connection: &impl ConnectionTrait,
    endpoint_id: &str,
    limit: u64,
) -> Result<u64, DbErr> {
    let some = Entity::find().select_only().column(Column::Id).filter(Column::EndpointId.eq(endpoint_id)).limit(limit);
    let deleted = Entity::delete_many().filter(Column::Id.in_subquery(some.into_query())).exec(connection).await?;
    Ok(deleted.rows_affected)
}

fn due(connection: &impl ConnectionTrait) -> Select<Entity> {
    let now = Expr::col((Entity, Column::DueAtMs)).lte(clock_ms(connection));
    Entity::find().filter(Column::State.eq(PENDING)).filter(now)
}
