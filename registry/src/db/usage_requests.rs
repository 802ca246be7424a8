//! Table `usage_requests`: a row for each request that was queued.

use std::collections::BTreeSet;

use sea_orm::entity::prelude::*;
use sea_orm::{Condition, QueryOrder as _, QuerySelect as _, Statement, Value};
use souk_protocol::TenantId;

use super::many::{ROWS_AT_ONCE, rows};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_requests")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub tenant_id: String,
    pub key_id: String,
    pub person_id: Option<String>,
    pub team_id: Option<String>,
    pub operation: String,
    pub model: String,
    pub admitted_at_ms: i64,
    pub ended_at_ms: i64,
    pub repeat_digest: Option<String>,
    /// JSON.
    pub shadowed: String,
    pub charged_input_tokens: i64,
    pub charged_output_tokens: i64,
    /// JSON; `None` where no hook acted.
    pub hooks: Option<String>,
}
no_relations!();

impl Model {
    fn values(&self) -> [Value; 14] {
        [
            self.id.clone().into(),
            self.tenant_id.clone().into(),
            self.key_id.clone().into(),
            self.person_id.clone().into(),
            self.team_id.clone().into(),
            self.operation.clone().into(),
            self.model.clone().into(),
            self.admitted_at_ms.into(),
            self.ended_at_ms.into(),
            self.repeat_digest.clone().into(),
            self.shadowed.clone().into(),
            self.charged_input_tokens.into(),
            self.charged_output_tokens.into(),
            self.hooks.clone().into(),
        ]
    }
}

/// Writes those that are not there, and answers their ids. `requests` are in the order of their ids, so that two who write
/// the same wait for each other in turn.
pub(crate) async fn insert_new(
    connection: &impl ConnectionTrait,
    requests: &[Model],
) -> Result<BTreeSet<String>, DbErr> {
    let mut new = BTreeSet::new();
    for some in requests.chunks(ROWS_AT_ONCE) {
        let (places, values) = rows(connection.get_database_backend(), some.iter().map(Model::values));
        let insert = format!(
            "INSERT INTO usage_requests (id, tenant_id, key_id, person_id, team_id, operation, model, admitted_at_ms, \
             ended_at_ms, repeat_digest, shadowed, charged_input_tokens, charged_output_tokens, hooks) VALUES {places} \
             ON CONFLICT (id) DO NOTHING RETURNING id"
        );
        let insert = Statement::from_sql_and_values(connection.get_database_backend(), insert, values);
        for row in connection.query_all_raw(insert).await? {
            new.insert(row.try_get::<String>("", "id")?);
        }
    }
    Ok(new)
}

/// The first request of a tenant since a moment that had this `Idempotency-Key` and was charged.
pub(crate) async fn repeated(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    repeat: &str,
    since_ms: i64,
) -> Result<Option<String>, DbErr> {
    let charged = Condition::any().add(Column::ChargedInputTokens.gt(0)).add(Column::ChargedOutputTokens.gt(0));
    Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::TenantId.eq(tenant.as_str()))
        .filter(Column::RepeatDigest.eq(repeat))
        .filter(Column::AdmittedAtMs.gte(since_ms))
        .filter(charged)
        .order_by_asc(Column::AdmittedAtMs)
        .into_tuple()
        .one(connection)
        .await
}

/// A request of a tenant.
pub(crate) async fn get(
    connection: &impl ConnectionTrait,
    tenant: &TenantId,
    id: &str,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).filter(Column::TenantId.eq(tenant.as_str())).one(connection).await
}

/// The first tenant after another that has requests.
pub(crate) async fn next_tenant(connection: &impl ConnectionTrait, after: &str) -> Result<Option<String>, DbErr> {
    let next = Entity::find().select_only().column(Column::TenantId).filter(Column::TenantId.gt(after));
    next.order_by_asc(Column::TenantId).into_tuple().one(connection).await
}

/// The ids of the first requests of a tenant that were admitted before a moment.
pub(crate) async fn first_before(
    connection: &impl ConnectionTrait,
    tenant: &str,
    before_ms: i64,
    limit: u64,
) -> Result<Vec<String>, DbErr> {
    let old = Entity::find().select_only().column(Column::Id).filter(Column::TenantId.eq(tenant));
    let old = old.filter(Column::AdmittedAtMs.lt(before_ms)).order_by_asc(Column::AdmittedAtMs);
    old.limit(limit).into_tuple().all(connection).await
}

/// Removes requests with their jobs.
pub(crate) async fn delete(connection: &impl ConnectionTrait, ids: &[String]) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::Id.is_in(ids)).exec(connection).await.map(|_| ())
}
