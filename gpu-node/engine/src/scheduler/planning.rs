//! What is left of a step's budget while it is planned.

use std::collections::HashSet;

use souk_protocol::Digest;

use super::plan::{Budget, StepPlan};
use super::shares::Shares;
use crate::adapter_set::AdapterSet;
use crate::prefix::BlockKey;
use crate::sequence::Sequence;

/// A plan in the making.
pub(super) struct Planning {
    pub(super) plan: StepPlan,
    /// Rows that are left.
    pub(super) rows: usize,
    pub(super) logit_rows: usize,
    pub(super) prefill_rows: usize,
    /// What each tenant may count on.
    pub(super) shares: Shares,
    /// Bytes of further adapters that may be read.
    adapter_bytes: usize,
    /// Adapters that the step reads.
    adapters: HashSet<Digest>,
    /// Blocks that prompts are about to compute in this step.
    under_way: HashSet<BlockKey>,
}

impl Planning {
    pub(super) fn new(plan: StepPlan, budget: &Budget) -> Self {
        Self {
            plan,
            rows: budget.max_rows,
            logit_rows: budget.max_logit_rows,
            prefill_rows: budget.max_rows,
            shares: Shares::default(),
            adapter_bytes: budget.max_adapter_bytes,
            adapters: HashSet::new(),
            under_way: HashSet::new(),
        }
    }

    /// Whether the step may read these adapters; those that it reads anyway cost nothing. The first set of a step
    /// always may, so that an adapter above the bound runs, if alone.
    pub(super) fn reads(&mut self, set: &AdapterSet) -> bool {
        let new = set.all().iter().map(|(adapter, _)| adapter).filter(|one| !self.adapters.contains(&one.digest));
        let cost: usize = new.map(|adapter| adapter.size_bytes).sum();
        if cost > self.adapter_bytes && !self.adapters.is_empty() {
            return false;
        }
        self.adapter_bytes = self.adapter_bytes.saturating_sub(cost);
        self.adapters.extend(set.all().iter().map(|(adapter, _)| adapter.digest));
        true
    }

    /// Whether a prompt computes its next block itself in this step, rather than wait for the one that is about to.
    /// Only who computes at full pace is waited for: a prompt that is scored is bounded by its logits.
    pub(super) fn takes_the_lead(&mut self, sequence: &Sequence) -> bool {
        let Some(key) = sequence.next_key() else { return true };
        if sequence.can_adopt_next() && self.under_way.contains(&key) {
            return false;
        }
        if sequence.num_scored == sequence.num_prompt {
            self.under_way.insert(key);
        }
        true
    }
}
