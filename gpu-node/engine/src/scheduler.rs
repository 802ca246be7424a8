//! What to run next. Pure: state and `now` in, decision out.
//!
//! Each step mixes two kinds of rows. Decode rows come first, so that running answers keep their pace; all of them,
//! unless the step has not rows enough and they are more than their tenant's share of it (see [`shares`]). Prefill
//! chunks fill the rest, oldest first, within a bound that keeps the step short; a prompt takes at most half of what is
//! left while others wait behind it, or what is kept for its tenant, and nothing of what is kept for other tenants
//! behind it, so that a short prompt is not stuck behind long ones.
//!
//! A prompt takes over the blocks that are in the prefix cache, and again before each of its chunks, since others add
//! to it. Of several prompts that would compute the same block in one step the oldest does, and the rest wait a step to
//! find it there: sixteen requests with one system prompt compute it once.
//!
//! When KV blocks run out, the youngest sequence of the tenant with the most gives its blocks up and is computed again
//! later. The oldest is never the victim of another, and each fits into the pool beside its [`reserve`], so the oldest
//! always moves on: nobody starves. Between tenants see [`admission`]; their prompts take turns, first one of each.
//!
//! A step reads a bounded number of bytes of adapters. Rows whose adapters no longer fit sit out a step, as do those
//! for which there was no row, and whoever has sat out most steps comes first in the next: with n sequences in the
//! batch a row sits out at most n - 1 steps in a row.

mod admission;
mod batch;
mod plan;
mod planning;
mod reserve;
mod reuse;
mod shares;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use self::batch::Batch;
pub(crate) use self::plan::{Budget, StepPlan};
use self::planning::Planning;
pub use self::reuse::Reuse;
use self::shares::Shares;
use super::blocks::{BlockPool, blocks_for};
use super::sequence::{Part, Sequence, SequenceId};

/// The scheduler's state: all sequences and the block pool.
#[derive(Debug)]
pub(crate) struct Scheduler {
    budget: Budget,
    pool: BlockPool,
    /// Sequences without blocks.
    waiting: BTreeMap<SequenceId, Sequence>,
    /// Sequences that hold blocks.
    running: Batch,
    reuse: Reuse,
}

impl Scheduler {
    /// A scheduler without sequences over a pool of blocks.
    #[must_use]
    pub(crate) fn new(budget: Budget, pool: BlockPool) -> Self {
        Self { budget, pool, waiting: BTreeMap::new(), running: Batch::default(), reuse: Reuse::default() }
    }

    /// The pool that new sequences take their empty block lists from.
    #[must_use]
    pub(crate) const fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Takes in a sequence. It has to fit into the empty pool at its full length.
    pub(crate) fn admit(&mut self, sequence: Sequence) {
        debug_assert!(blocks_for(sequence.max_len.saturating_sub(1)) <= self.pool.num_blocks());
        self.waiting.insert(sequence.id, sequence);
    }

    /// Lets a sequence go; its blocks are free at once.
    pub(crate) fn remove(&mut self, id: SequenceId) -> Option<Sequence> {
        let mut sequence = self.running.remove(id).or_else(|| self.waiting.remove(&id))?;
        sequence.blocks.release();
        Some(sequence)
    }

    /// All sequences that run.
    pub(crate) fn all_running_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.running.values_mut()
    }

    /// Offers what a sequence has computed to the prefix cache.
    pub(crate) fn share_computed(&mut self, id: SequenceId) {
        if let Some(sequence) = self.running.get_mut(id) {
            sequence.share_computed();
        }
    }

    /// A sequence that runs.
    #[must_use]
    pub(crate) fn running(&self, id: SequenceId) -> Option<&Sequence> {
        self.running.get(id)
    }

    /// How many sequences hold blocks.
    #[must_use]
    pub(crate) fn num_running(&self) -> usize {
        self.running.len()
    }

    /// How many sequences wait for blocks.
    #[must_use]
    pub(crate) fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many more sequences the batch could take now; 0 while others wait, since they come first.
    #[must_use]
    pub(crate) fn num_free_places(&self) -> usize {
        if self.waiting.is_empty() { self.budget.max_sequences - self.running.len() } else { 0 }
    }

    /// What the prefix cache has spared.
    #[must_use]
    pub(crate) const fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// Decides the next step. Empty only if there is no sequence left.
    pub(crate) fn plan(&mut self, now: Instant) -> StepPlan {
        let plan = StepPlan { expired: self.take_expired(now), ..StepPlan::default() };
        let mut planning = Planning::new(plan, &self.budget);
        let sat_out = self.running.values().filter(|sequence| sequence.num_sat_out > 0);
        if let Some(longest) = sat_out.max_by_key(|sequence| sequence.num_sat_out) {
            // Its adapters have a place whatever comes before it.
            planning.reads(&longest.adapters);
        }
        self.admit_newcomers(&mut planning);
        let max_prefill_rows = self.budget.max_prefill_rows_beside_decode;
        planning.shares = Shares::new(&self.running, self.budget.max_rows, max_prefill_rows);
        let waiting_for_rows = self.plan_decode(&mut planning);
        if !planning.plan.parts.is_empty() {
            planning.prefill_rows = max_prefill_rows;
        }
        self.plan_prefill(&mut planning);
        // Prompts may have left some of what was kept for them.
        waiting_for_rows.into_iter().for_each(|id| self.plan_decode_row(id, &mut planning));
        self.plan_admission(&mut planning);
        self.plan_drafts(&mut planning);
        self.pool.ask(self.num_blocks_wanted());
        let mut plan = planning.plan;
        self.group_by_adapters(&mut plan.parts);
        plan
    }

    /// Blocks that are short, so that running prompts can be filled, answers grow, and the first in line enter, without
    /// anybody giving way.
    fn num_blocks_wanted(&self) -> usize {
        let running = self.running.values().map(|sequence| sequence.blocks_missing() + 1).sum::<usize>();
        let has_place = self.running.len() < self.budget.max_sequences;
        let next = self.waiting.values().next().filter(|_| has_place).map_or(0, Sequence::blocks_missing);
        let reserve = if self.running.is_empty() { 0 } else { self.reserve_left() };
        (running + next + reserve).saturating_sub(self.pool.num_free())
    }

    fn take_expired(&mut self, now: Instant) -> Vec<Sequence> {
        let all = self.running.values().chain(self.waiting.values());
        let is_over = |sequence: &&Sequence| sequence.deadline.is_some_and(|deadline| deadline <= now);
        let expired: Vec<SequenceId> = all.filter(is_over).map(|sequence| sequence.id).collect();
        expired.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Plans the answers' rows that leave what is kept for prompts. Returns those for which no row is left: they are of
    /// tenants above their share.
    fn plan_decode(&mut self, planning: &mut Planning) -> Vec<SequenceId> {
        let decoding = self.running.values().filter(|sequence| sequence.is_decoding());
        let mut decoding: Vec<_> = decoding.map(|sequence| (Reverse(sequence.num_sat_out), sequence.id)).collect();
        decoding.sort_unstable();
        let num_rows = planning.rows.saturating_sub(planning.shares.num_kept());
        if decoding.len() > num_rows {
            let mut of_tenant = HashMap::new();
            let is_beyond_share = |id: SequenceId| {
                let count = of_tenant.entry(self.running.get(id).map(|sequence| &sequence.tenant)).or_insert(0_usize);
                *count += 1;
                *count > planning.shares.share()
            };
            let beyond: Vec<bool> = decoding.iter().map(|(_, id)| *id).map(is_beyond_share).collect();
            let mut order: Vec<_> = beyond.into_iter().zip(decoding).collect();
            order.sort_by_key(|(is_beyond_share, _)| *is_beyond_share);
            decoding = order.into_iter().map(|(_, place)| place).collect();
        }
        let left_over = decoding.split_off(num_rows.min(decoding.len()));
        decoding.into_iter().for_each(|(_, id)| self.plan_decode_row(id, planning));
        left_over.into_iter().map(|(_, id)| id).collect()
    }

    fn plan_decode_row(&mut self, id: SequenceId, planning: &mut Planning) {
        if planning.rows == 0
            && let Some(sequence) = self.running.get_mut(id)
        {
            sequence.num_sat_out += 1;
        }
        self.plan_part(id, 1, planning);
    }

    /// Plans a chunk of each prompt: first the oldest of each tenant, the one with the fewest sequences first, then the
    /// second of each, and so on.
    fn plan_prefill(&mut self, planning: &mut Planning) {
        let mut leading = Vec::new();
        for sequence in self.running.values_mut().filter(|sequence| !sequence.is_decoding()) {
            let num_found = sequence.adopt();
            self.reuse.count(sequence, num_found);
            if planning.takes_the_lead(sequence) {
                leading.push(sequence.id);
            }
        }
        let mut rounds = HashMap::new();
        leading.sort_by_cached_key(|id| {
            let Some(tenant) = self.running.get(*id).map(|sequence| &sequence.tenant) else { return (0, 0, *id) };
            let round = rounds.entry(tenant).or_insert(0_usize);
            *round += 1;
            (*round, self.running.of_tenant(tenant), *id)
        });
        for (index, id) in leading.iter().enumerate() {
            let behind = &leading[index + 1..];
            let others_wait = !behind.is_empty() || !self.waiting.is_empty();
            self.plan_chunk(*id, others_wait, self.num_kept_for(behind, *id, planning), planning);
        }
    }

    /// Lets answers speculate where that takes nothing from anybody: all rows are decode rows and few, nobody waits,
    /// and the blocks are free. The rows to spare are dealt out evenly, from the oldest on.
    fn plan_drafts(&mut self, planning: &mut Planning) {
        let Planning { plan, rows, logit_rows, .. } = planning;
        let spare = self.budget.max_speculative_rows.saturating_sub(plan.parts.len());
        let mut spare = spare.min(*rows).min(*logit_rows);
        let all_decode =
            plan.parts.iter().all(|part| self.running.get(part.sequence).is_some_and(Sequence::is_decoding));
        let has_blocks = self.pool.num_free() >= self.reserve_left() + spare;
        if !all_decode || !has_blocks || !self.waiting.is_empty() {
            return;
        }
        let mut num_sharing = plan.parts.len();
        for part in &mut plan.parts {
            let Some(sequence) = self.running.get_mut(part.sequence) else { continue };
            let num_drafted = sequence.draft_ahead(spare.div_ceil(num_sharing));
            part.positions.end += num_drafted;
            part.logits.end += num_drafted;
            spare -= num_drafted;
            num_sharing -= 1;
        }
    }

    /// Rows that are kept for the tenants of `behind`, other than that of `id`.
    fn num_kept_for(&self, behind: &[SequenceId], id: SequenceId, planning: &Planning) -> usize {
        let tenant_of = |id: SequenceId| self.running.get(id).map(|sequence| &sequence.tenant);
        let tenants: HashSet<_> = behind.iter().filter_map(|id| tenant_of(*id)).collect();
        let others = tenants.into_iter().filter(|tenant| Some(*tenant) != tenant_of(id));
        others.map(|tenant| planning.shares.kept_for(tenant)).sum()
    }

    /// Plans the next chunk of a prompt, which leaves `num_kept` rows to those behind it.
    fn plan_chunk(&mut self, id: SequenceId, others_wait: bool, num_kept: usize, planning: &mut Planning) -> bool {
        let Some(tenant) = self.running.get(id).map(|sequence| sequence.tenant.clone()) else { return false };
        let rows = planning.prefill_rows.min(planning.rows);
        let most = if others_wait { rows.div_ceil(2).max(planning.shares.kept_for(&tenant)) } else { rows };
        let planned = self.plan_part(id, most.min(rows.saturating_sub(num_kept)), planning);
        planning.prefill_rows = planning.prefill_rows.saturating_sub(planned);
        planning.shares.spend(&tenant, planned);
        planned > 0
    }

    /// Plans up to `max_rows` rows of a sequence and takes their blocks. Returns how many rows; 0 if the sequence has
    /// been preempted or nothing fits.
    fn plan_part(&mut self, id: SequenceId, max_rows: usize, planning: &mut Planning) -> usize {
        let max_rows = max_rows.min(planning.rows);
        let Some(part) = self.running.get(id).and_then(|sequence| sequence.next_part(max_rows, planning.logit_rows))
        else {
            return 0;
        };
        let reads = self.running.get_mut(id).is_some_and(|sequence| {
            let reads = planning.reads(&sequence.adapters);
            sequence.num_sat_out = if reads { 0 } else { sequence.num_sat_out + 1 };
            reads
        });
        if !reads || !self.make_room(id, part.positions.end, planning) {
            return 0;
        }
        let num_rows = part.positions.len();
        planning.rows -= num_rows;
        planning.logit_rows -= part.logits.len();
        planning.plan.parts.push(part);
        num_rows
    }

    /// Grows the block list of `id` to `num_tokens`, at the cost of others. Returns false if it had to give way itself.
    fn make_room(&mut self, id: SequenceId, num_tokens: usize, planning: &mut Planning) -> bool {
        loop {
            let leaves_the_reserve = self.leaves_the_reserve(id, num_tokens);
            let Some(sequence) = self.running.get_mut(id) else { return false };
            if leaves_the_reserve && sequence.blocks.grow_to(num_tokens) {
                return true;
            }
            let victim = self.running.victim(|_| true).unwrap_or(id);
            self.preempt(victim, planning);
        }
    }

    /// Sends a sequence back to those that wait.
    fn preempt(&mut self, victim: SequenceId, planning: &mut Planning) {
        let Some(mut sequence) = self.running.remove(victim) else { return };
        sequence.restart();
        sequence.was_preempted = true;
        self.waiting.insert(victim, sequence);
        planning.plan.preempted.push(victim);
        if let Some(index) = planning.plan.parts.iter().position(|part| part.sequence == victim) {
            let part = planning.plan.parts.remove(index);
            planning.rows += part.positions.len();
            planning.logit_rows += part.logits.len();
        }
    }

    /// Makes parts with the same adapters adjacent, so that the runner reads each adapter once. Base rows come first.
    fn group_by_adapters(&self, parts: &mut [Part]) {
        parts.sort_by(|a, b| {
            let key = |part: &Part| self.running.get(part.sequence).map(|sequence| sequence.adapters.key());
            key(a).cmp(&key(b)).then(a.sequence.cmp(&b.sequence))
        });
    }
}
