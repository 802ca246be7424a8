//! Table `outbox`: what is to be told outside.

use sea_orm::Set;
use sea_orm::entity::prelude::*;

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
    tenant_id: &str,
    kind: &str,
    subject: &str,
    payload: String,
) -> Result<(), DbErr> {
    let row = ActiveModel {
        event_id: Set(event_id),
        tenant_id: Set(tenant_id.to_owned()),
        kind: Set(kind.to_owned()),
        subject: Set(subject.to_owned()),
        payload: Set(payload),
        emitted_at_ms: Set(now_ms()),
        ..Default::default()
    };
    Entity::insert(row).exec_without_returning(connection).await.map(|_| ())
}
