//! What all stores have in common about budgets: which hold what, for how long, and when to come back.

use std::time::Duration;

use souk_protocol::{PeriodKey, Policy, Unit};

use crate::port::HELD_RETRY;
use crate::words::Amounts;

/// The budgets that hold what requests reserve. Versions are counted where they are published.
const HELD: [Policy; 3] = [Policy::TokensPerDay, Policy::TokensPerMonth, Policy::TrainingTokensPerMonth];

/// For how long after its month what was settled and never counted is held, in milliseconds.
const LOST_AFTER_MS: u64 = 24 * 3600 * 1000;

/// The budgets that a request's amounts are held under, and how much. They are held whether or not there is a limit, since one
/// may come meanwhile.
pub(crate) fn held(amounts: Amounts, at_ms: u64) -> impl Iterator<Item = (PeriodKey, Unit, u64)> {
    HELD.into_iter().filter_map(move |policy| {
        let amount = amounts.of(policy.unit());
        PeriodKey::of(policy, at_ms).filter(|_| amount > 0).map(|period| (period, policy.unit(), amount))
    })
}

/// How long from its admission, in milliseconds, until the rows of a settled request are given up.
pub(crate) fn lost_after_ms(at_ms: u64) -> u64 {
    PeriodKey::month(at_ms).ends_at_ms().saturating_sub(at_ms).saturating_add(LOST_AFTER_MS)
}

/// How long from a moment to the end of its period.
pub(crate) fn until_end(period: PeriodKey, at_ms: u64) -> Duration {
    Duration::from_millis(period.ends_at_ms().saturating_sub(at_ms))
}

/// When to come back to a budget without room: its total, what was asked for, and its limit.
pub(crate) fn retry_after(used: u64, asked: u64, limit: u64, period: PeriodKey, at_ms: u64) -> Option<Duration> {
    (asked <= limit).then(|| match used.saturating_add(asked) > limit {
        true => until_end(period, at_ms),
        false => HELD_RETRY,
    })
}
