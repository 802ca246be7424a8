//! Comparing the sums of usage with the rows: those of days with the rows of days that have all of theirs, and totals with the
//! sums of days, which stay for ever. A server may be running.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{DatabaseConnection, DbErr};
use serde::Serialize;
use souk_protocol::limits::PeriodKey;

use crate::check::CheckError;
use crate::config::RegistryConfig;
use crate::db::usage_check::{self, DayOf};
use crate::db::{begin_row_write, usage_days, usage_requests};
use crate::offline::open_database;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UsageCheck {
    /// Rows of jobs that were counted.
    pub num_rows: u64,
    /// Days of tenants that were compared with them.
    pub num_days: u64,
    /// Days of which rows are kept no longer.
    pub num_closed_days: u64,
    /// Sums that are others than their rows say.
    pub different: Vec<DifferentSum>,
    /// Sums that were put right.
    pub num_repaired: u64,
}

/// A sum that is not that of what it is the sum of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferentSum {
    /// The tenant.
    pub tenant: String,
    /// A day, or a month of a total.
    pub period: String,
    /// Whose and of what it is.
    pub of: String,
    /// What is summed up: a column of `usage_days`, or `total`.
    pub sum: String,
    /// As it was kept.
    pub kept: i64,
    /// As it is by the rows, or by the days.
    pub counted: i64,
}

impl UsageCheck {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.different.is_empty()
    }
}

/// Compares all sums of the installation that `config` describes with the rows, and with `repair` makes them what the rows say.
///
/// # Errors
/// [`CheckError`]: nothing is known then, and of what was to be repaired some may be.
pub async fn check_usage(config: &RegistryConfig, repair: bool) -> Result<UsageCheck, CheckError> {
    let db = open_database(config).await?;
    let mut check = Check { db: &db, repair, found: UsageCheck::default() };
    let checked = check.all().await;
    let found = check.found;
    // What still has a connection ends with the process.
    db.close_by_ref().await.ok();
    checked?;
    Ok(found)
}

struct Check<'a> {
    db: &'a DatabaseConnection,
    repair: bool,
    found: UsageCheck,
}

impl Check<'_> {
    async fn all(&mut self) -> Result<(), DbErr> {
        let mut after = String::new();
        loop {
            // A tenant may have lost either.
            let with_sums = usage_days::next_tenant(self.db, &after).await?;
            let with_rows = usage_requests::next_tenant(self.db, &after).await?;
            let Some(tenant) = with_sums.into_iter().chain(with_rows).min() else { return Ok(()) };
            for day in self.days(&tenant).await? {
                self.day(&tenant, day).await?;
            }
            self.totals(&tenant).await?;
            after = tenant;
        }
    }

    /// The days of a tenant that have all their rows.
    async fn days(&mut self, tenant: &str) -> Result<BTreeSet<PeriodKey>, DbErr> {
        let mut days = BTreeMap::new();
        for day in usage_check::days_of_rows(self.db, tenant).await? {
            days.insert(PeriodKey::Day(u32::try_from(day).unwrap_or_default()), true);
        }
        for day in usage_check::days(self.db, tenant).await? {
            if let Ok(key) = day.day.parse() {
                days.insert(key, day.closed == 0);
            }
        }
        self.found.num_closed_days += days.values().filter(|is_open| !**is_open).count() as u64;
        Ok(days.into_iter().filter_map(|(day, is_open)| is_open.then_some(day)).collect())
    }

    async fn day(&mut self, tenant: &str, day: PeriodKey) -> Result<(), DbErr> {
        let ms = |at_ms: u64| i64::try_from(at_ms).unwrap_or(i64::MAX);
        let text = day.to_string();
        let (begins_at_ms, ends_at_ms) = (ms(day.begins_at_ms()), ms(day.ends_at_ms()));
        let of = DayOf { tenant, day: &text, begins_at_ms, ends_at_ms };
        let num_rows = usage_check::num_rows(self.db, &of).await?;
        self.found.num_rows += u64::try_from(num_rows).unwrap_or_default();
        self.found.num_days += 1;
        let different = usage_check::different(self.db, &of).await?;
        if self.repair && !different.is_empty() {
            let transaction = begin_row_write(self.db).await?;
            usage_check::lock(&transaction).await?;
            // Closed meanwhile, its sums are all that is left.
            let days = usage_check::days(&transaction, tenant).await?;
            if !days.iter().any(|other| other.day == text && other.closed != 0) {
                usage_check::count_anew(&transaction, &of).await?;
                transaction.commit().await?;
                self.found.num_repaired += different.len() as u64;
            }
        }
        let found = different.into_iter().map(|found| DifferentSum {
            tenant: tenant.to_owned(),
            period: text.clone(),
            of: found.name,
            sum: found.sum,
            kept: found.kept,
            counted: found.counted,
        });
        self.found.different.extend(found);
        Ok(())
    }

    async fn totals(&mut self, tenant: &str) -> Result<(), DbErr> {
        let mut different = usage_check::different_totals(self.db, tenant).await?;
        if self.repair && !different.is_empty() {
            let transaction = begin_row_write(self.db).await?;
            usage_check::lock(&transaction).await?;
            // Once more, as nobody writes.
            different = usage_check::different_totals(&transaction, tenant).await?;
            for total in &different {
                usage_check::put_right(&transaction, tenant, total).await?;
            }
            transaction.commit().await?;
            self.found.num_repaired += different.len() as u64;
        }
        let found = different.into_iter().map(|found| DifferentSum {
            tenant: tenant.to_owned(),
            period: found.period,
            of: format!("{} {}", found.level, found.subject_id),
            sum: "total".to_owned(),
            kept: found.kept,
            counted: found.counted,
        });
        self.found.different.extend(found);
        Ok(())
    }
}
