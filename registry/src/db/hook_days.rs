//! Table `hook_days`: what versions of hooks did in a day.

use sea_orm::entity::prelude::*;
use sea_orm::{QueryOrder as _, Statement, Value};

use super::many::{ROWS_AT_ONCE, rows};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "hook_days")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub version_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub day: String,
    pub calls: i64,
    pub failures: i64,
    pub skipped: i64,
    pub refusals: i64,
    pub fuel: i64,
}
no_relations!();

impl Model {
    fn values(&self) -> [Value; 7] {
        [
            self.version_id.clone().into(),
            self.day.clone().into(),
            self.calls.into(),
            self.failures.into(),
            self.skipped.into(),
            self.refusals.into(),
            self.fuel.into(),
        ]
    }
}

/// Adds to sums, which are in the order of their keys, so that two who add to the same wait for each other in turn.
pub(crate) async fn add(connection: &impl ConnectionTrait, added: &[Model]) -> Result<(), DbErr> {
    for some in added.chunks(ROWS_AT_ONCE) {
        let (places, values) = rows(connection.get_database_backend(), some.iter().map(Model::values));
        let insert = format!(
            "INSERT INTO hook_days (version_id, day, calls, failures, skipped, refusals, fuel) VALUES {places} \
             ON CONFLICT (version_id, day) DO UPDATE SET calls = hook_days.calls + excluded.calls, \
             failures = hook_days.failures + excluded.failures, skipped = hook_days.skipped + excluded.skipped, \
             refusals = hook_days.refusals + excluded.refusals, fuel = hook_days.fuel + excluded.fuel"
        );
        let insert = Statement::from_sql_and_values(connection.get_database_backend(), insert, values);
        connection.execute_raw(insert).await?;
    }
    Ok(())
}

/// The days of these versions from `since` on, the last first.
pub(crate) async fn of_versions(
    connection: &impl ConnectionTrait,
    version_ids: impl IntoIterator<Item = &str>,
    since: &str,
) -> Result<Vec<Model>, DbErr> {
    let of_versions = Entity::find().filter(Column::VersionId.is_in(version_ids)).filter(Column::Day.gte(since));
    of_versions.order_by_desc(Column::Day).order_by_asc(Column::VersionId).all(connection).await
}
