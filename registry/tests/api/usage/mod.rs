//! What was used: written once, summed up, told of, kept and compared.

mod checking;
mod reading;
mod telling;
mod writing;

use souk_protocol::limits::{PeriodKey, Subject, Unit};
use souk_protocol::{Outcome, PersonId, RequestRecord, TeamId, TenantId, TotalKey};
use souk_registry::{Registry, UsageCheck, check_usage};
use souk_testkit::usage::{job, request};

use crate::support::{Stack, config_in};

/// 2026-11-15T12:00:00Z.
const NOON: u64 = 1_794_744_000_000;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

fn tenant(id: &str) -> TenantId {
    TenantId::from_stored(id)
}

/// A request of a member in a team, with two choices of one prompt: 10 tokens in, 3 and 4 out, and a job that failed.
fn rich(of: &TenantId, key: &str, at_ms: u64) -> RequestRecord {
    let mut record = request(of, key, at_ms, (10, 3));
    record.person = Some(PersonId::from_stored("per_1"));
    record.team = Some(TeamId::from_stored("team_1"));
    record.jobs.push(job(of, &record.request, 1, Outcome::Length, (10, 4)));
    record.jobs.push(job(of, &record.request, 2, Outcome::Broken, (10, 5)));
    record
}

fn month_of(subject: Subject) -> TotalKey {
    TotalKey { subject, period: PeriodKey::month(NOON), unit: Unit::Tokens }
}

fn day_of(subject: Subject) -> TotalKey {
    TotalKey { subject, period: PeriodKey::day(NOON), unit: Unit::Tokens }
}

/// Amount and version of a total.
async fn total(registry: &Registry, key: TotalKey) -> (u64, u64) {
    let totals = registry.usage_totals(std::slice::from_ref(&key)).await.unwrap();
    assert_eq!(totals.len(), 1);
    assert_eq!(totals[0].key, key);
    (totals[0].amount, totals[0].version)
}

async fn check(stack: &Stack, repair: bool) -> UsageCheck {
    check_usage(&config_in(stack.folder.path()), repair).await.unwrap()
}

async fn count(stack: &Stack, table: &str) -> i64 {
    stack.number(&format!("SELECT count(*) AS n FROM {table}")).await
}
