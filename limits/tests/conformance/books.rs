//! The rows of usage as the cases need them: sums with versions that move in one step with the rows, exactly once.

use std::collections::{BTreeMap, BTreeSet};

use souk_limits::{Amounts, Ask};
use souk_protocol::Policy::{TokensPerDay, TokensPerMonth};
use souk_protocol::{RequestId, Total, TotalKey, Unit};

use crate::support::total_key;

#[derive(Default)]
pub(crate) struct Books {
    sums: BTreeMap<TotalKey, (u64, u64)>,
    written: BTreeSet<RequestId>,
}

impl Books {
    /// Writes the rows of requests; returns the totals that they belong to, as they are then.
    pub(crate) fn write(&mut self, rows: &[(Ask, Amounts)]) -> Vec<Total> {
        let mut moved = BTreeSet::new();
        for (ask, used) in rows {
            let is_new = self.written.insert(ask.request.clone());
            for key in keys(ask) {
                if is_new {
                    let (amount, version) = self.sums.entry(key.clone()).or_default();
                    (*amount, *version) = (*amount + used.of(Unit::Tokens), *version + 1);
                }
                moved.insert(key);
            }
        }
        moved.into_iter().map(|key| self.total(key)).collect()
    }

    pub(crate) fn total(&self, key: TotalKey) -> Total {
        let (amount, version) = self.sums.get(&key).copied().unwrap_or_default();
        Total { key, amount, version }
    }
}

/// The budgets of a request.
pub(crate) fn keys(ask: &Ask) -> impl Iterator<Item = TotalKey> {
    let subjects = ask.tree.levels.iter().map(|level| level.subject.clone());
    subjects.flat_map(|subject| [TokensPerDay, TokensPerMonth].map(|policy| total_key(&subject, policy, ask.at_ms)))
}
