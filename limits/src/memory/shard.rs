//! The steps on what is known of some tenants. Each is whole: what fell due happens first.

use souk_protocol::{Mode, Policy, RequestId, Subject, TenantId, Total, TotalKey};

use super::holdings::{Holding, Holdings};
use super::levels::{Levels, Verdict, Want};
use crate::error::ReserveError;
use crate::words::{Amounts, Ask, Held, Reserved, Standing, Violation};

/// How often what is idle is looked for, in milliseconds.
const SWEEP_EVERY_MS: u64 = 60_000;

/// What is known of some tenants.
#[derive(Debug, Default)]
pub(super) struct Shard {
    levels: Levels,
    holdings: Holdings,
    swept_at_ms: u64,
}

/// What all limits of a request said.
#[derive(Default)]
struct Judgement {
    refusals: Vec<Violation>,
    shadowed: Vec<Violation>,
    /// Limits from whose buckets it takes: the level's place in the tree and which.
    takes: Vec<(usize, Policy)>,
    unknown: Vec<TotalKey>,
    /// Whether one of these refuses.
    waits_for_totals: bool,
}

impl Shard {
    /// Lets go of what nobody renews, and forgets what is idle.
    pub(super) fn sweep(&mut self, now_ms: u64) {
        while let Some(lapsed) = self.holdings.pop_lapsed(now_ms) {
            self.let_go(&lapsed, now_ms);
        }
        if now_ms.saturating_sub(self.swept_at_ms) >= SWEEP_EVERY_MS {
            self.swept_at_ms = now_ms;
            for lost in self.holdings.take_lost(now_ms) {
                self.let_go(&lost, now_ms);
            }
            self.levels.forget_idle(now_ms);
        }
    }

    pub(super) fn reserve(&mut self, ask: &Ask, now_ms: u64) -> Result<Reserved, ReserveError> {
        let want = Want { amounts: ask.amounts, at_ms: ask.at_ms, now_ms };
        if let Some(known) = self.holdings.get(&ask.tenant, &ask.request) {
            let shadowed = known.shadowed.clone();
            return Ok(Reserved { standings: self.standings(ask, &want), shadowed, unknown: Vec::new() });
        }
        let judgement = self.judge(ask, &want);
        if judgement.waits_for_totals {
            return Err(ReserveError::TotalsUnknown(judgement.unknown));
        }
        if !judgement.refusals.is_empty() {
            return Err(ReserveError::Refused(judgement.refusals));
        }
        let mut holding = Holding::new(ask, false, now_ms);
        for (place, policy) in judgement.takes {
            let level = &ask.tree.levels[place];
            let taken = self.levels.take(&level.subject, policy, level.limits[&policy], &want);
            holding.taken.push((place, policy, taken));
        }
        holding.shadowed.clone_from(&judgement.shadowed);
        self.hold(&ask.request, holding, now_ms);
        let standings = self.standings(ask, &want);
        Ok(Reserved { standings, shadowed: judgement.shadowed, unknown: judgement.unknown })
    }

    pub(super) fn settle(&mut self, tenant: &TenantId, request: &RequestId, used: Amounts, now_ms: u64) {
        let Some(holding) = self.holdings.get_mut(tenant, request).filter(|holding| !holding.is_settled) else {
            return;
        };
        let used = used.at_most(holding.amounts);
        let reserved = Want { amounts: holding.amounts, at_ms: holding.at_ms, now_ms };
        holding.amounts = used;
        holding.settle(now_ms);
        for (place, policy, taken) in std::mem::take(&mut holding.taken) {
            let back = taken.amount.saturating_sub(used.of(policy.unit()));
            self.levels.give_back(&holding.tree.levels[place].subject, policy, back, taken);
        }
        for level in &holding.tree.levels {
            self.levels.let_go(&level.subject, &reserved);
            self.levels.hold(&level.subject, &Want { amounts: used, ..reserved });
        }
        if !used.costs() {
            self.holdings.remove(tenant, request);
        }
    }

    pub(super) fn count(&mut self, tenant: &TenantId, totals: &[Total], written: &[RequestId], now_ms: u64) {
        for total in totals {
            self.levels.count(total, written.is_empty(), now_ms);
        }
        for request in written {
            if let Some(holding) = self.holdings.remove(tenant, request) {
                self.let_go(&holding, now_ms);
            }
        }
    }

    pub(super) fn renew(&mut self, tenant: &TenantId, requests: &[RequestId], now_ms: u64) -> Vec<RequestId> {
        let is_unknown = |request: &&RequestId| !self.holdings.renew(tenant, request, now_ms);
        requests.iter().filter(is_unknown).cloned().collect()
    }

    pub(super) fn restore(&mut self, held: &Held, now_ms: u64) {
        let Held { ask, is_settled } = held;
        if self.holdings.get(&ask.tenant, &ask.request).is_none() && (ask.amounts.costs() || !is_settled) {
            self.hold(&ask.request, Holding::new(ask, *is_settled, now_ms), now_ms);
        }
    }

    /// How many requests something is held for, and how many levels something is known of.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.holdings.len(), self.levels.len())
    }

    fn judge(&self, ask: &Ask, want: &Want) -> Judgement {
        let mut judgement = Judgement::default();
        for (place, level) in ask.tree.levels.iter().enumerate() {
            for (&policy, &limit) in &level.limits {
                let enforces = limit.mode == Mode::Enforce;
                match self.levels.judge(&level.subject, policy, limit, want) {
                    Verdict::Room if policy.is_budget() || want.amounts.of(policy.unit()) == 0 => {}
                    Verdict::Room => judgement.takes.push((place, policy)),
                    Verdict::Refuses(violation) if enforces => judgement.refusals.push(violation),
                    Verdict::Refuses(violation) => judgement.shadowed.push(violation),
                    Verdict::Unknown(key) => {
                        judgement.unknown.push(key);
                        judgement.waits_for_totals |= enforces;
                    }
                }
            }
        }
        judgement
    }

    fn standings(&self, ask: &Ask, want: &Want) -> Vec<Standing> {
        let limits = ask.tree.limits().filter(|(_, _, limit)| limit.mode == Mode::Enforce);
        limits.filter_map(|(subject, policy, limit)| self.levels.standing(subject, policy, limit, want)).collect()
    }

    fn hold(&mut self, request: &RequestId, holding: Holding, now_ms: u64) {
        let want = want_of(&holding, now_ms);
        subjects(&holding).for_each(|subject| self.levels.hold(subject, &want));
        self.holdings.insert(request, holding);
    }

    fn let_go(&mut self, holding: &Holding, now_ms: u64) {
        let want = want_of(holding, now_ms);
        subjects(holding).for_each(|subject| self.levels.let_go(subject, &want));
    }
}

fn want_of(holding: &Holding, now_ms: u64) -> Want {
    Want { amounts: holding.amounts, at_ms: holding.at_ms, now_ms }
}

fn subjects(holding: &Holding) -> impl Iterator<Item = &Subject> {
    holding.tree.levels.iter().map(|level| &level.subject)
}
