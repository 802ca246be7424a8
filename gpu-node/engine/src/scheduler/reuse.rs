//! What the prefix cache has spared.

use crate::sequence::Sequence;

/// How far the prefix cache has helped so far, in prompt tokens. A sequence counts once, however often it is preempted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Of all sequences that could have made use of it.
    pub num_wanted: u64,
    /// Whose K and V were there.
    pub num_found: u64,
}

impl Reuse {
    /// Books a sequence that enters the batch with what it has adopted.
    pub(super) fn enter(&mut self, sequence: &mut Sequence, num_found: usize) {
        if sequence.chain.is_some() && !sequence.was_preempted {
            self.num_wanted += sequence.num_prompt as u64;
        }
        self.count(sequence, num_found);
    }

    /// Books tokens that a sequence has adopted, before its first preemption.
    pub(super) fn count(&mut self, sequence: &mut Sequence, num_found: usize) {
        if !sequence.was_preempted {
            let num_found = num_found.min(sequence.num_prompt - sequence.num_cached);
            sequence.num_cached += num_found;
            self.num_found += num_found as u64;
        }
    }
}
