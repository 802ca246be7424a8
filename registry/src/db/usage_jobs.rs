//! Table `usage_jobs`: a row for each job of a request, written and removed with it.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, Statement, Value};

use super::connection::MAX_IN;
use super::many::{ROWS_AT_ONCE, rows};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_jobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub request_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_index: i64,
    pub base: String,
    /// JSON: digests.
    pub adapters: String,
    pub outcome: String,
    pub prompt_tokens: i64,
    pub cached_tokens: i64,
    pub computed_tokens: i64,
    pub delivered_tokens: i64,
    pub charged_input_tokens: i64,
    pub charged_output_tokens: i64,
    pub attempts: i64,
    pub first_token_ms: Option<i64>,
    pub took_ms: i64,
}
no_relations!();

impl Model {
    fn values(&self) -> [Value; 14] {
        [
            self.request_id.clone().into(),
            self.job_index.into(),
            self.base.clone().into(),
            self.adapters.clone().into(),
            self.outcome.clone().into(),
            self.prompt_tokens.into(),
            self.cached_tokens.into(),
            self.computed_tokens.into(),
            self.delivered_tokens.into(),
            self.charged_input_tokens.into(),
            self.charged_output_tokens.into(),
            self.attempts.into(),
            self.first_token_ms.into(),
            self.took_ms.into(),
        ]
    }
}

/// Writes jobs of requests that have just been written.
pub(crate) async fn insert(connection: &impl ConnectionTrait, jobs: &[Model]) -> Result<(), DbErr> {
    for some in jobs.chunks(ROWS_AT_ONCE) {
        let (places, values) = rows(connection.get_database_backend(), some.iter().map(Model::values));
        let insert = format!(
            "INSERT INTO usage_jobs (request_id, job_index, base, adapters, outcome, prompt_tokens, cached_tokens, \
             computed_tokens, delivered_tokens, charged_input_tokens, charged_output_tokens, attempts, first_token_ms, \
             took_ms) VALUES {places}"
        );
        let insert = Statement::from_sql_and_values(connection.get_database_backend(), insert, values);
        connection.execute_raw(insert).await?;
    }
    Ok(())
}

/// The jobs of requests, by request and index.
pub(crate) async fn of(connection: &impl ConnectionTrait, requests: &[&str]) -> Result<Vec<Model>, DbErr> {
    let mut jobs = Vec::new();
    for some in requests.chunks(MAX_IN) {
        let of_some = Entity::find().filter(Column::RequestId.is_in(some.iter().copied()));
        jobs.extend(of_some.order_by_asc(Column::RequestId).order_by_asc(Column::JobIndex).all(connection).await?);
    }
    Ok(jobs)
}
