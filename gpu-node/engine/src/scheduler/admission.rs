//! Who enters the batch, and who makes way.
//!
//! The line: the tenant with the fewest sequences in the batch comes first, then age. So a place that comes free goes to
//! whoever has least. The bound on a sequence's wait: one that came later enters before it only if that one's tenant has
//! fewer in the batch at that moment, and never one of its own tenant. So from the moment on when its tenant has none in the
//! batch nobody passes it, and that comes at the latest when its tenant's running answers have ended, which are as long as
//! they asked to be.
//!
//! A tenant that has none in the batch does not wait for a place or for blocks: the youngest sequence of the tenant with
//! the most, which must have two at least, is preempted. It keeps what it has computed in the prefix cache while there is
//! room, and it makes way for a newcomer only once in its life, so it is delayed by at most one stay in the line.

use super::Scheduler;
use super::planning::Planning;
use crate::sequence::{Sequence, SequenceId};

impl Scheduler {
    /// Lets in the first sequence of each tenant that has none in the batch.
    pub(super) fn admit_newcomers(&mut self, planning: &mut Planning) {
        while let Some(id) = self.next_in_line(planning) {
            if self.waiting.get(&id).is_none_or(|sequence| self.running.of_tenant(&sequence.tenant) > 0) {
                return;
            }
            while !self.enter(id) {
                let may = |sequence: &Sequence| !sequence.has_made_way && self.running.of_tenant(&sequence.tenant) > 1;
                let Some(victim) = self.running.victim(may) else { return };
                if let Some(sequence) = self.running.get_mut(victim) {
                    sequence.has_made_way = true;
                }
                self.preempt(victim, planning);
            }
        }
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
            if takes_the_lead && !self.plan_chunk(id, others_wait, planning) {
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

    /// Moves a waiting sequence into the batch if there is a place, and room in the pool for all of its tokens. What
    /// running prompts have yet to fill is spoken for, and each running sequence is left one block to grow into, lest a
    /// newcomer be thrown out at once.
    fn enter(&mut self, id: SequenceId) -> bool {
        if self.running.len() == self.budget.max_sequences {
            return false;
        }
        let spoken_for = self.running.values().map(Sequence::blocks_missing).sum::<usize>() + self.running.len();
        let Some(next) = self.waiting.get_mut(&id) else { return false };
        // What it finds in the cache is no longer free, and need not be taken: adopted first, then counted.
        let num_found = next.adopt();
        if !self.running.is_empty() && self.pool.num_free() < next.blocks_missing() + spoken_for {
            next.restart();
            return false;
        }
        let Some(mut sequence) = self.waiting.remove(&id) else { return false };
        self.reuse.enter(&mut sequence, num_found);
        self.running.insert(sequence);
        true
    }
}
