//! Table `outbox`: what is to be told outside.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _, Set};
use souk_protocol::TenantId;

use super::clock::now_ms;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i64,
    pub event_id: String,
    pub tenant_id: String,
    pub kind: String,
    pub subject: String,
    pub payload: String,
    pub emitted_at_ms: i64,
}
no_relations!();

pub(crate) async fn insert(
    connection: &impl ConnectionTrait,
    event_id: String,
    tenant: &TenantId,
    kind: &str,
    subject: &str,
    payload: String,
) -> Result<(), DbErr> {
    let row = ActiveModel {
        event_id: Set(event_id),
        tenant_id: Set(tenant.to_string()),
        kind: Set(kind.to_owned()),
        subject: Set(subject.to_owned()),
        payload: Set(payload),
        emitted_at_ms: Set(now_ms()),
        ..Default::default()
    };
    Entity::insert(row).exec_without_returning(connection).await.map(|_| ())
}

/// The events with these ids.
pub(crate) async fn by_event_ids(
    connection: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = &str>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find().filter(Column::EventId.is_in(ids)).all(connection).await
}

/// The ids of the first events, at most `limit`, that were emitted before a moment.
pub(crate) async fn first_before(
    connection: &impl ConnectionTrait,
    before_ms: i64,
    limit: u64,
) -> Result<Vec<String>, DbErr> {
    let first = Entity::find().order_by_asc(Column::Id).limit(limit).all(connection).await?;
    // In the order of their numbers, which is that of their moments but for a little.
    let old = first.into_iter().take_while(|event| event.emitted_at_ms < before_ms);
    Ok(old.map(|event| event.event_id).collect())
}

/// Removes these events. Their deliveries have to be gone.
pub(crate) async fn delete(connection: &impl ConnectionTrait, ids: &[String]) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::EventId.is_in(ids)).exec(connection).await.map(|_| ())
}
