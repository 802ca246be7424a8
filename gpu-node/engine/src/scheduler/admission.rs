//! Who enters the batch, and who makes way.
//!
//! The line: the tenant with the fewest sequences in the batch comes first, then age. So a place that comes free goes
//! to whoever has least. The bound on a sequence's wait: one that came later enters before it only if that one's tenant
//! has fewer in the batch at that moment, and never one of its own tenant. So from the moment on when its tenant has
//! none in the batch nobody passes it, and that comes at the latest when its tenant's running answers have ended, which
//! are as long as they asked to be.
//!
//! A tenant that has none in the batch does not wait for a place or for blocks behind one that has several: the
//! youngest sequence of the tenant with the most, in places or in blocks, whichever is short, is preempted, as often as
//! it comes to that. A tenant's oldest never is, so each tenant moves on, and each of its sequences once those before
//! it have ended; what a preempted one has computed stays in the prefix cache while there is room. Where all have but
//! one, or one has nearly all blocks, there is the [`reserve`](super::reserve): a tenant's first sequence that fits
//! there enters whatever the others hold, also before a longer one that waits for more.

use std::collections::HashSet;

use super::Scheduler;
use super::planning::Planning;
use crate::sequence::{Sequence, SequenceId};

impl Scheduler {
    /// Lets in the first sequence of each tenant that has none in the batch.
    pub(super) fn admit_newcomers(&mut self, planning: &mut Planning) {
        let mut somebody_waits = false;
        for id in self.newcomers() {
            let may_pass = || self.waiting.get(&id).is_some_and(|sequence| self.fits_the_reserve(sequence));
            if !somebody_waits || may_pass() {
                somebody_waits |= !self.enter_at_the_cost_of_others(id, planning);
            }
        }
    }

    /// The oldest sequence of each tenant that has none in the batch, oldest first.
    fn newcomers(&self) -> Vec<SequenceId> {
        let mut tenants = HashSet::new();
        let is_first = |sequence: &&Sequence| {
            self.running.of_tenant(&sequence.tenant) == 0 && tenants.insert(sequence.tenant.clone())
        };
        self.waiting.values().filter(is_first).map(|sequence| sequence.id).collect()
    }

    fn enter_at_the_cost_of_others(&mut self, id: SequenceId, planning: &mut Planning) -> bool {
        while !self.enter(id) {
            let may = |sequence: &Sequence| self.running.of_tenant(&sequence.tenant) > 1;
            let victim = match self.running.len() == self.budget.max_sequences {
                true => self.running.victim(may),
                false => self.running.victim_by_blocks(may),
            };
            let Some(victim) = victim else { return false };
            self.preempt(victim, planning);
        }
        true
    }

    /// Lets waiting sequences in, without overtaking, while the step has room for their first chunk.
    pub(super) fn plan_admission(&mut self, planning: &mut Planning) {
        while planning.prefill_rows.min(planning.rows) > 0 {
            let Some(id) = self.next_in_line(planning) else { return };
            if !self.enter(id) {
                return;
            }
            let others_wait = !self.waiting.is_empty();
            let takes_the_lead = self.running.get(id).is_some_and(|sequence| planning.takes_the_lead(sequence));
            if takes_the_lead && !self.plan_chunk(id, others_wait, 0, planning) {
                return;
            }
        }
    }

    /// Who enters next; `None` also if that one has just been preempted, since nobody overtakes it.
    fn next_in_line(&self, planning: &Planning) -> Option<SequenceId> {
        let place = |sequence: &&Sequence| (self.running.of_tenant(&sequence.tenant), sequence.id);
        let next = self.waiting.values().min_by_key(place)?.id;
        (!planning.plan.preempted.contains(&next)).then_some(next)
    }

    /// Moves a waiting sequence into the batch if there is a place, and room in the pool for all of its tokens beside
    /// what it has to leave. Who fits into the reserve finds its blocks there.
    fn enter(&mut self, id: SequenceId) -> bool {
        if self.running.len() == self.budget.max_sequences {
            return false;
        }
        let fits_the_reserve = self.waiting.get(&id).is_some_and(|sequence| self.fits_the_reserve(sequence));
        let to_leave = if fits_the_reserve { 1 } else { self.blocks_to_leave() };
        let Some(next) = self.waiting.get_mut(&id) else { return false };
        // What it finds in the cache is no longer free, and need not be taken: adopted first, then counted.
        let num_found = next.adopt();
        if !self.running.is_empty() && self.pool.num_free() < next.blocks_missing() + to_leave {
            next.restart();
            return false;
        }
        let Some(mut sequence) = self.waiting.remove(&id) else { return false };
        self.reuse.enter(&mut sequence, num_found);
        self.running.insert(sequence);
        true
    }
}
