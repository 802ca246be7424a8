//! Table `usage_totals`: what somebody used in a day or a month, which budgets are held to.

use sea_orm::entity::prelude::*;
use sea_orm::{FromQueryResult, Statement, Value};

use super::connection::MAX_IN;
use super::many::{ROWS_AT_ONCE, rows};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_totals")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub level: String,
    /// A member's: the tenant's id, a slash, and the person's.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject_id: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub period: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub unit: String,
    pub tenant_id: String,
    pub amount: i64,
    pub version: i64,
    pub told: i32,
}
no_relations!();

/// Which row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) level: &'static str,
    pub(crate) subject_id: String,
    pub(crate) period: String,
    pub(crate) unit: &'static str,
}

/// A row as it is after a change, or now.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub(crate) struct Sum {
    pub(crate) level: String,
    pub(crate) subject_id: String,
    pub(crate) period: String,
    pub(crate) unit: String,
    pub(crate) amount: i64,
    pub(crate) version: i64,
    pub(crate) told: i32,
}

/// What is added to a row.
pub(crate) struct Added {
    pub(crate) key: Key,
    pub(crate) tenant_id: String,
    pub(crate) amount: i64,
}

impl Key {
    /// Compares with [`Sum::key`].
    pub(crate) fn parts(&self) -> (&str, &str, &str, &str) {
        (self.level, &self.subject_id, &self.period, self.unit)
    }

    fn values(&self) -> [Value; 4] {
        [self.level.into(), self.subject_id.clone().into(), self.period.clone().into(), self.unit.into()]
    }
}

impl Sum {
    /// Its key.
    pub(crate) fn key(&self) -> (&str, &str, &str, &str) {
        (&self.level, &self.subject_id, &self.period, &self.unit)
    }
}

/// Adds to what is there, and answers the rows as they are then. `added` is in the order of the keys, so that two who add wait
/// for each other in turn.
pub(crate) async fn add(connection: &impl ConnectionTrait, added: &[Added]) -> Result<Vec<Sum>, DbErr> {
    let mut sums = Vec::with_capacity(added.len());
    for some in added.chunks(ROWS_AT_ONCE) {
        let (places, values) = rows(
            connection.get_database_backend(),
            some.iter().map(|Added { key, tenant_id, amount }| {
                let [level, subject, period, unit] = key.values();
                // Version 0 is what is not there.
                let first: [Value; 4] = [tenant_id.clone().into(), (*amount).into(), 1_i64.into(), 0_i32.into()];
                let [tenant, amount, version, told] = first;
                [level, subject, period, unit, tenant, amount, version, told]
            }),
        );
        let upsert = format!(
            "INSERT INTO usage_totals (level, subject_id, period, unit, tenant_id, amount, version, told) \
             VALUES {places} ON CONFLICT (level, subject_id, period, unit) DO UPDATE SET \
             amount = usage_totals.amount + excluded.amount, version = usage_totals.version + 1 \
             RETURNING level, subject_id, period, unit, amount, version, told"
        );
        let upsert = Statement::from_sql_and_values(connection.get_database_backend(), upsert, values);
        sums.extend(Sum::find_by_statement(upsert).all(connection).await?);
    }
    Ok(sums)
}

/// The rows with these keys that are there.
pub(crate) async fn get(connection: &impl ConnectionTrait, keys: &[Key]) -> Result<Vec<Sum>, DbErr> {
    let mut sums = Vec::with_capacity(keys.len());
    for some in keys.chunks(MAX_IN) {
        let (places, values) = rows(connection.get_database_backend(), some.iter().map(Key::values));
        let query = format!(
            "SELECT level, subject_id, period, unit, amount, version, told FROM usage_totals \
             WHERE (level, subject_id, period, unit) IN (VALUES {places})"
        );
        let query = Statement::from_sql_and_values(connection.get_database_backend(), query, values);
        sums.extend(Sum::find_by_statement(query).all(connection).await?);
    }
    Ok(sums)
}

/// Notes which thresholds were told of, in the transaction that tells.
pub(crate) async fn note_told(connection: &impl ConnectionTrait, sum: &Sum, told: i32) -> Result<(), DbErr> {
    let update = Entity::update_many().col_expr(Column::Told, told.into());
    let row = update
        .filter(Column::Level.eq(&sum.level))
        .filter(Column::SubjectId.eq(&sum.subject_id))
        .filter(Column::Period.eq(&sum.period))
        .filter(Column::Unit.eq(&sum.unit));
    row.exec(connection).await.map(|_| ())
}
