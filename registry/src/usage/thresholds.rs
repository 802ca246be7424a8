//! Telling of thresholds: half, four fifths and all of a budget, and where it says that it is to be told of
//! ([`Limit::soft`]). Each is told once in a period, in the transaction that moves the total past it. A budget that is
//! lowered below what was used is told of by the next request.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sea_orm::{DatabaseTransaction, DbErr};
use serde_json::json;
use souk_protocol::limits::{Limit, PeriodKey, Policy, Subject};
use souk_protocol::{RequestRecord, TenantId, TotalKey};

use super::rows::total_keys;
use super::totals::key_of;
use crate::db::usage_totals::{self, Sum};
use crate::events::{Event, Kind, emit};
use crate::limits::{LimitSettings, limits_of};

/// Percent of a budget that are told of, each with its bit in the column `told`.
const PERCENT: [(u64, i32); 3] = [(50, 1), (80, 2), (100, 4)];
/// The bit of [`Limit::soft`].
const SOFT: i32 = 8;

/// A threshold that a total has reached.
struct Reached {
    /// `50%`, or `soft`.
    name: String,
    /// From where on it is reached.
    at: u64,
    bit: i32,
}

/// Emits an event for each threshold that totals have just passed.
pub(super) async fn tell(
    transaction: &DatabaseTransaction,
    defaults: &LimitSettings,
    new: &[&RequestRecord],
    moved: &[Sum],
) -> Result<(), DbErr> {
    let mut tenants = BTreeMap::<Subject, &TenantId>::new();
    let mut keys = BTreeSet::<TotalKey>::new();
    for request in new {
        tenants.extend(request.subjects().into_iter().map(|subject| (subject, &request.tenant)));
        keys.extend(total_keys(request));
    }
    tell_of_totals(transaction, defaults, &tenants, keys, moved).await
}

/// The same of totals that anything has moved; `tenants` says whose each subject is.
pub(super) async fn tell_of_totals(
    transaction: &DatabaseTransaction,
    defaults: &LimitSettings,
    tenants: &BTreeMap<Subject, &TenantId>,
    keys: impl IntoIterator<Item = TotalKey>,
    moved: &[Sum],
) -> Result<(), DbErr> {
    if moved.is_empty() {
        return Ok(());
    }
    let subjects: Vec<_> = tenants.keys().cloned().collect();
    let mut budgets = BTreeMap::<Subject, Vec<(Policy, Limit)>>::new();
    for (subject, policy, limit) in limits_of(transaction, defaults, &subjects).await? {
        if policy.is_budget() {
            budgets.entry(subject).or_default().push((policy, limit));
        }
    }
    if budgets.is_empty() {
        return Ok(());
    }
    let keys: Vec<_> = keys.into_iter().map(|key| (key_of(&key), key)).collect();
    let keys: HashMap<_, _> = keys.iter().map(|(row, key)| (row.parts(), key)).collect();
    for sum in moved {
        let Some(total) = keys.get(&sum.key()) else { continue };
        let Some(tenant) = tenants.get(&total.subject) else { continue };
        for (policy, limit) in budgets.get(&total.subject).into_iter().flatten() {
            if policy.unit() == total.unit && is_in(*policy, total.period) {
                tell_of(transaction, tenant, (total, *policy, *limit), sum).await?;
            }
        }
    }
    Ok(())
}

async fn tell_of(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    (total, policy, limit): (&TotalKey, Policy, Limit),
    sum: &Sum,
) -> Result<(), DbErr> {
    let used = u64::try_from(sum.amount).unwrap_or_default();
    let reached = reached(limit, used, sum.told);
    for Reached { name, at, .. } in &reached {
        let payload = json!({
            "level": total.subject.level(),
            "subject": total.subject.id(),
            "policy": policy,
            "period": total.period,
            "threshold": name,
            "reached_at": at,
            "limit": limit.value,
            "mode": limit.mode,
            "used": used,
        });
        emit(transaction, Event { tenant, kind: Kind::LimitReached, subject: total.subject.id(), payload }).await?;
    }
    let told = reached.iter().fold(sum.told, |told, reached| told | reached.bit);
    if told == sum.told { Ok(()) } else { usage_totals::note_told(transaction, sum, told).await }
}

/// The thresholds of a limit that `used` is past and that were not told of.
fn reached(limit: Limit, used: u64, told: i32) -> Vec<Reached> {
    let part = |percent: u64| u128::from(limit.value) * u128::from(percent);
    let percents = PERCENT.into_iter().map(|(percent, bit)| Reached {
        name: format!("{percent}%"),
        at: u64::try_from(part(percent).div_ceil(100)).unwrap_or(u64::MAX),
        bit,
    });
    let soft = limit.soft.map(|at| Reached { name: "soft".to_owned(), at, bit: SOFT });
    percents.chain(soft).filter(|threshold| used >= threshold.at && used > 0 && told & threshold.bit == 0).collect()
}

fn is_in(policy: Policy, period: PeriodKey) -> bool {
    PeriodKey::of(policy, period.begins_at_ms()) == Some(period)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_protocol::limits::Mode;

    use super::*;

    fn names(limit: Limit, used: u64, told: i32) -> Vec<String> {
        reached(limit, used, told).into_iter().map(|reached| reached.name).collect()
    }

    #[test]
    fn thresholds_are_half_four_fifths_all_and_where_it_was_asked_for() {
        let limit = Limit { value: 101, soft: Some(60), mode: Mode::Enforce };
        assert_eq!(names(limit, 50, 0), Vec::<String>::new());
        assert_eq!(names(limit, 51, 0), ["50%"]);
        assert_eq!(names(limit, 60, 1), ["soft"]);
        assert_eq!(names(limit, 101, 1 | SOFT), ["80%", "100%"]);
        assert_eq!(names(limit, 1000, 7 | SOFT), Vec::<String>::new());
        let nothing = Limit { value: 0, soft: None, mode: Mode::Shadow };
        assert_eq!(names(nothing, 0, 0), Vec::<String>::new());
        assert_eq!(names(nothing, 1, 0), ["50%", "80%", "100%"]);
    }

    #[test]
    fn a_budget_counts_in_its_own_period() {
        assert!(is_in(Policy::TokensPerDay, PeriodKey::day(1_796_083_199_999)));
        assert!(is_in(Policy::TokensPerMonth, PeriodKey::month(1_796_083_199_999)));
        assert!(!is_in(Policy::TokensPerMonth, PeriodKey::day(1_796_083_199_999)));
        assert!(!is_in(Policy::RequestsPerMinute, PeriodKey::day(1_796_083_199_999)));
    }

    proptest! {
        #[test]
        fn each_threshold_is_told_once_however_a_total_grows(
            value in 0..2000_u64, soft in proptest::option::of(0..2000_u64), steps in prop::collection::vec(0..500_u64, 0..30),
        ) {
            let limit = Limit { value, soft, mode: Mode::Enforce };
            let (mut used, mut told, mut names) = (0, 0, Vec::new());
            for step in steps {
                used += step;
                for reached in reached(limit, used, told) {
                    prop_assert!(reached.at <= used);
                    told |= reached.bit;
                    names.push(reached.name);
                }
            }
            let mut once = names.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), names.len());
            prop_assert_eq!(names.contains(&"100%".to_owned()), used > 0 && used >= value);
        }
    }
}
