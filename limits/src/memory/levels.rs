//! What is counted of one tenant, team, member or key: its buckets and its budgets.

use std::collections::{BTreeMap, HashMap};

use souk_protocol::{Limit, PeriodKey, Policy, Subject, Total, TotalKey, Unit};

use super::buckets::{Bucket, Taken};
use crate::budgets;
use crate::port::IDLE;
use crate::words::{Amounts, Standing, Violation, value_of};

/// Levels by whose they are. One that is not in here has full buckets, and totals that are not known.
#[derive(Debug, Default)]
pub(super) struct Levels(HashMap<Subject, Level>);

#[derive(Debug, Default)]
struct Level {
    buckets: BTreeMap<Policy, Bucket>,
    budgets: Vec<Budget>,
}

#[derive(Debug)]
struct Budget {
    period: PeriodKey,
    unit: Unit,
    total: u64,
    /// Of the total; with `is_known` false, below which one that is read is too old.
    version: u64,
    /// Whether a total was read since the store began or forgot it.
    is_known: bool,
    held: u64,
    /// When somebody last asked or counted, in milliseconds since the store began.
    touched_ms: u64,
}

/// What one request wants, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) amounts: Amounts,
    /// When it was admitted, in milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
    /// Now, in milliseconds since the store began.
    pub(super) now_ms: u64,
}

/// What a limit says to a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It has room.
    Room,
    /// It has none.
    Refuses(Violation),
    /// The total is not known.
    Unknown(TotalKey),
}

impl Levels {
    /// What a limit says to a request. Changes nothing.
    pub(super) fn judge(&self, subject: &Subject, policy: Policy, limit: Limit, want: &Want) -> Verdict {
        let (asked, value) = (want.amounts.of(policy.unit()), value_of(policy, limit));
        if asked == 0 {
            return Verdict::Room;
        }
        let refuses = |used, held, retry_after| {
            Verdict::Refuses(Violation {
                subject: subject.clone(),
                policy,
                limit: value,
                used,
                held,
                asked,
                retry_after,
            })
        };
        let Some(period) = PeriodKey::of(policy, want.at_ms) else {
            let bucket = self.bucket(subject, policy, value, want.now_ms);
            return match bucket.has_in(asked) {
                Some(wait) if wait.is_zero() => Verdict::Room,
                wait => refuses(value - bucket.left(), 0, wait),
            };
        };
        let known = self.budget(subject, period, policy.unit()).filter(|budget| budget.is_known);
        let Some(&Budget { total: used, held, .. }) = known else {
            return Verdict::Unknown(TotalKey { subject: subject.clone(), period, unit: policy.unit() });
        };
        if used.saturating_add(held).saturating_add(asked) <= value {
            return Verdict::Room;
        }
        refuses(used, held, budgets::retry_after(used, asked, value, period, want.at_ms))
    }

    /// How a limit stands; `None` of a budget whose total is not known, and of versions.
    pub(super) fn standing(&self, subject: &Subject, policy: Policy, limit: Limit, want: &Want) -> Option<Standing> {
        if policy.unit() == Unit::Versions {
            return None;
        }
        let value = value_of(policy, limit);
        let (remaining, resets_in) = match PeriodKey::of(policy, want.at_ms) {
            None => {
                let bucket = self.bucket(subject, policy, value, want.now_ms);
                (bucket.left(), bucket.has_in(value).unwrap_or_default())
            }
            Some(period) => {
                let budget = self.budget(subject, period, policy.unit()).filter(|budget| budget.is_known)?;
                let spent = budget.total.saturating_add(budget.held);
                (value.saturating_sub(spent), budgets::until_end(period, want.at_ms))
            }
        };
        Some(Standing { subject: subject.clone(), policy, limit: value, remaining, resets_in })
    }

    /// Takes from a bucket what [`judge`](Self::judge) says it has.
    pub(super) fn take(&mut self, subject: &Subject, policy: Policy, limit: Limit, want: &Want) -> Taken {
        let mut bucket = self.bucket(subject, policy, value_of(policy, limit), want.now_ms);
        let taken = bucket.take(want.amounts.of(policy.unit()));
        self.level(subject).buckets.insert(policy, bucket);
        taken
    }

    /// Gives back what was taken and not used. What has been full since is full.
    pub(super) fn give_back(&mut self, subject: &Subject, policy: Policy, amount: u64, taken: Taken) {
        if let Some(bucket) = self.0.get_mut(subject).and_then(|level| level.buckets.get_mut(&policy)) {
            bucket.give_back(amount, taken);
        }
    }

    /// Holds so much of each budget of a moment's periods, whether or not it is limited: a limit may come while it is held.
    pub(super) fn hold(&mut self, subject: &Subject, want: &Want) {
        let level = self.level(subject);
        for (period, unit, amount) in budgets::held(want.amounts, want.at_ms) {
            let budget = level.budget(period, unit, want.now_ms);
            budget.held = budget.held.saturating_add(amount);
        }
    }

    /// Lets go of what was held.
    pub(super) fn let_go(&mut self, subject: &Subject, want: &Want) {
        let level = self.level(subject);
        for (period, unit, amount) in budgets::held(want.amounts, want.at_ms) {
            let budget = level.budget(period, unit, want.now_ms);
            debug_assert!(budget.held >= amount, "what is let go of was held");
            budget.held = budget.held.saturating_sub(amount);
        }
    }

    /// Takes in a total.
    pub(super) fn count(&mut self, total: &Total, was_read: bool, now_ms: u64) {
        let TotalKey { subject, period, unit } = &total.key;
        let budget = self.level(subject).budget(*period, *unit, now_ms);
        if total.version >= budget.version {
            (budget.total, budget.version) = (total.amount, total.version);
        }
        budget.is_known |= was_read;
    }

    /// Forgets full buckets, and totals that nothing is held under and nobody asked for lately.
    pub(super) fn forget_idle(&mut self, now_ms: u64) {
        let idle_ms = u64::try_from(IDLE.as_millis()).unwrap_or(u64::MAX);
        self.0.retain(|_, level| {
            level.buckets.retain(|_, bucket| !bucket.is_full_at(now_ms));
            level.budgets.retain(|budget| budget.held > 0 || now_ms.saturating_sub(budget.touched_ms) < idle_ms);
            !level.buckets.is_empty() || !level.budgets.is_empty()
        });
    }

    /// How many levels something is known of.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn bucket(&self, subject: &Subject, policy: Policy, value: u64, now_ms: u64) -> Bucket {
        let known = self.0.get(subject).and_then(|level| level.buckets.get(&policy));
        known.copied().unwrap_or_else(|| Bucket::new(value)).at(now_ms, value)
    }

    fn budget(&self, subject: &Subject, period: PeriodKey, unit: Unit) -> Option<&Budget> {
        self.0.get(subject)?.budgets.iter().find(|budget| (budget.period, budget.unit) == (period, unit))
    }

    fn level(&mut self, subject: &Subject) -> &mut Level {
        self.0.entry(subject.clone()).or_default()
    }
}

impl Level {
    fn budget(&mut self, period: PeriodKey, unit: Unit, now_ms: u64) -> &mut Budget {
        let place = self.budgets.iter().position(|budget| (budget.period, budget.unit) == (period, unit));
        let place = place.unwrap_or_else(|| {
            let (total, version, held) = (0, 0, 0);
            self.budgets.push(Budget { period, unit, total, version, is_known: false, held, touched_ms: now_ms });
            self.budgets.len() - 1
        });
        let budget = &mut self.budgets[place];
        budget.touched_ms = now_ms;
        budget
    }
}
