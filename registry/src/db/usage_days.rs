//! Table `usage_days`: sums over the rows of a day, which stay when the rows go.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, QuerySelect as _, Statement, Value};

use super::many::{ROWS_AT_ONCE, rows};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_days")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub tenant_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: String,
    /// Empty: a service's key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub person_id: String,
    /// Empty: no team.
    #[sea_orm(primary_key, auto_increment = false)]
    pub team_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub base: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub adapters: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub outcome: String,
    pub requests: i64,
    pub jobs: i64,
    pub prompt_tokens: i64,
    pub cached_tokens: i64,
    pub computed_tokens: i64,
    pub delivered_tokens: i64,
    pub charged_input_tokens: i64,
    pub charged_output_tokens: i64,
    /// 1: rows of the day may be gone.
    pub closed: i32,
}
no_relations!();

/// The columns that are sums.
pub(crate) const SUMS: [&str; 8] = [
    "requests",
    "jobs",
    "prompt_tokens",
    "cached_tokens",
    "computed_tokens",
    "delivered_tokens",
    "charged_input_tokens",
    "charged_output_tokens",
];

impl Model {
    fn values(&self) -> [Value; 17] {
        [
            self.tenant_id.clone().into(),
            self.day.clone().into(),
            self.key_id.clone().into(),
            self.person_id.clone().into(),
            self.team_id.clone().into(),
            self.base.clone().into(),
            self.adapters.clone().into(),
            self.outcome.clone().into(),
            self.requests.into(),
            self.jobs.into(),
            self.prompt_tokens.into(),
            self.cached_tokens.into(),
            self.computed_tokens.into(),
            self.delivered_tokens.into(),
            self.charged_input_tokens.into(),
            self.charged_output_tokens.into(),
            self.closed.into(),
        ]
    }
}

/// Adds to what is there. `days` are in the order of their keys, so that two who add wait for each other in turn.
pub(crate) async fn add(connection: &impl ConnectionTrait, days: &[Model]) -> Result<(), DbErr> {
    let sums: Vec<_> = SUMS.iter().map(|sum| format!("{sum} = usage_days.{sum} + excluded.{sum}")).collect();
    for some in days.chunks(ROWS_AT_ONCE) {
        let (places, values) = rows(connection.get_database_backend(), some.iter().map(Model::values));
        let upsert = format!(
            "INSERT INTO usage_days (tenant_id, day, key_id, person_id, team_id, base, adapters, outcome, {}, closed) \
             VALUES {places} ON CONFLICT (tenant_id, day, key_id, person_id, team_id, base, adapters, outcome) \
             DO UPDATE SET {}",
            SUMS.join(", "),
            sums.join(", ")
        );
        let upsert = Statement::from_sql_and_values(connection.get_database_backend(), upsert, values);
        connection.execute_raw(upsert).await?;
    }
    Ok(())
}

/// Notes that rows of a tenant's days before this one may be gone from now on.
pub(crate) async fn close_before(connection: &impl ConnectionTrait, tenant: &str, day: &str) -> Result<(), DbErr> {
    let close = Entity::update_many().col_expr(Column::Closed, 1_i32.into()).filter(Column::TenantId.eq(tenant));
    close.filter(Column::Day.lt(day)).filter(Column::Closed.eq(0)).exec(connection).await.map(|_| ())
}

/// The first tenant after another that has used something.
pub(crate) async fn next_tenant(connection: &impl ConnectionTrait, after: &str) -> Result<Option<String>, DbErr> {
    let next = Entity::find().select_only().column(Column::TenantId).filter(Column::TenantId.gt(after));
    next.order_by_asc(Column::TenantId).into_tuple().one(connection).await
}
