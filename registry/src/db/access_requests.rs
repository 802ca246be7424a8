//! Table `access_requests`: which tenants asked for access to whose gated adapters, and what was decided.

use std::time::Duration;

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait as _;
use sea_orm::{Condition, IntoActiveModel as _, QueryOrder as _, QuerySelect as _};
use souk_protocol::{Principal, TenantId};

use super::clock::{clock_ms_ago, now_ms};
use crate::words::RequestState;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "access_requests")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub adapter_id: String,
    /// The tenant whose adapter it is.
    pub owner_id: String,
    /// The tenant that asks.
    pub tenant_id: String,
    pub state: String,
    /// JSON, each with the question as it stood.
    pub answers: String,
    pub asked_by: String,
    pub asked_by_person: Option<String>,
    pub asked_at_ms: i64,
    /// When the owner means to have answered.
    pub due_at_ms: i64,
    pub decided_by: Option<String>,
    pub decided_by_person: Option<String>,
    pub decided_at_ms: Option<i64>,
    pub reason: Option<String>,
}
no_relations!();

impl Model {
    /// Notes what its owner made of it.
    pub(crate) fn decide(&mut self, by: &Principal, to: RequestState, reason: Option<String>) {
        self.state = to.as_str().to_owned();
        self.decided_by = Some(by.key.to_string());
        self.decided_by_person = by.person.as_ref().map(ToString::to_string);
        self.decided_at_ms = Some(now_ms());
        self.reason = reason;
    }

    pub(crate) fn state(&self) -> RequestState {
        RequestState::from_column(&self.state)
    }
}

/// Whose requests a list has.
pub(crate) enum Side<'a> {
    /// Those that a tenant made.
    Asked(&'a TenantId),
    /// Those for a tenant's adapters.
    Received(&'a TenantId),
}

pub(crate) async fn get(connection: &impl ConnectionTrait, id: &str) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(connection).await
}

/// The next `limit` requests of one side before the id `before`, newest first; of one state or one adapter, if they are
/// named.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    side: Side<'_>,
    state: Option<RequestState>,
    adapter_id: Option<&str>,
    before: Option<String>,
    limit: u64,
) -> Result<Vec<Model>, DbErr> {
    let of_side = match side {
        Side::Asked(tenant) => Column::TenantId.eq(tenant.as_str()),
        Side::Received(tenant) => Column::OwnerId.eq(tenant.as_str()),
    };
    let filters = Condition::all()
        .add(of_side)
        .add_option(state.map(|state| Column::State.eq(state.as_str())))
        .add_option(adapter_id.map(|id| Column::AdapterId.eq(id)))
        .add_option(before.map(|id| Column::Id.lt(id)));
    Entity::find().filter(filters).order_by_desc(Column::Id).limit(limit).all(connection).await
}

/// Whether a tenant has a request for an adapter that waits for a decision.
pub(crate) async fn is_pending(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    tenant: &TenantId,
) -> Result<bool, DbErr> {
    let pending = of(adapter_id, tenant).filter(Column::State.eq(RequestState::Pending.as_str()));
    Ok(pending.count(connection).await? > 0)
}

/// How many requests a tenant has made for an adapter within the last day.
pub(crate) async fn count_of_a_day(
    connection: &impl ConnectionTrait,
    adapter_id: &str,
    tenant: &TenantId,
) -> Result<u64, DbErr> {
    let a_day_ago = clock_ms_ago(connection, Duration::from_secs(24 * 3600));
    let lately = of(adapter_id, tenant).filter(Expr::col(Column::AskedAtMs).gt(a_day_ago));
    lately.count(connection).await
}

pub(crate) async fn insert(connection: &impl ConnectionTrait, row: Model) -> Result<Model, DbErr> {
    row.into_active_model().reset_all().insert(connection).await
}

/// Writes state and decision as they are in `row`, if the request is still in the state `from`; answers whether it was.
pub(crate) async fn step(connection: &impl ConnectionTrait, from: RequestState, row: &Model) -> Result<bool, DbErr> {
    let update = Entity::update_many()
        .col_expr(Column::State, row.state.as_str().into())
        .col_expr(Column::DecidedBy, row.decided_by.clone().into())
        .col_expr(Column::DecidedByPerson, row.decided_by_person.clone().into())
        .col_expr(Column::DecidedAtMs, row.decided_at_ms.into())
        .col_expr(Column::Reason, row.reason.clone().into());
    let still = update.filter(Column::Id.eq(&row.id)).filter(Column::State.eq(from.as_str()));
    Ok(still.exec(connection).await?.rows_affected > 0)
}

/// Those of an adapter that wait for a decision or were approved, by the asking tenant.
pub(crate) async fn standing_of(connection: &impl ConnectionTrait, adapter_id: &str) -> Result<Vec<Model>, DbErr> {
    let standing = [RequestState::Pending.as_str(), RequestState::Approved.as_str()];
    let of_adapter = Entity::find().filter(Column::AdapterId.eq(adapter_id)).filter(Column::State.is_in(standing));
    of_adapter.order_by_asc(Column::TenantId).order_by_asc(Column::Id).all(connection).await
}

fn of(adapter_id: &str, tenant: &TenantId) -> Select<Entity> {
    Entity::find().filter(Column::AdapterId.eq(adapter_id)).filter(Column::TenantId.eq(tenant.as_str()))
}
