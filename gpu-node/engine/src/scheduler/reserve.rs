//! The blocks that long requests leave to short ones.
//!
//! A place in the batch is worth nothing without KV blocks, and a few long prompts take them all: for minutes, since
//! even their own tenant's other requests do not get them back. So a share of the blocks is a reserve. Into it comes
//! only who has nothing else in the batch and needs little: at most half of the reserve, so that one tenant never has
//! it all. Such a sequence passes a longer one that waits for blocks, and takes nothing from it by that: whatever it
//! holds of the reserve, the others are not bound to leave any more. As it grows beyond its half it becomes one of the
//! others.
//!
//! What nobody holds of the reserve is prefix cache, so it costs no hits; and a sequence that is alone uses it all.

use super::Scheduler;
use crate::blocks::blocks_for;
use crate::sequence::{Sequence, SequenceId};

impl Scheduler {
    /// Blocks of the reserve that nobody holds whom it is for: what the others leave free.
    pub(super) fn reserve_left(&self) -> usize {
        let reserve = self.pool.reserve();
        if reserve == 0 {
            return 0;
        }
        let held: usize = self.running.values().filter(|sequence| self.is_in_reserve(sequence)).map(needs).sum();
        reserve.saturating_sub(held)
    }

    /// Blocks that one which does not fit into the reserve leaves free as it enters: what running prompts have yet to
    /// fill, one for each of the others to grow into, lest it be thrown out at once, and what is left of the reserve,
    /// in which those that are in it grow. So beside these alone even a sequence enters that needs all other blocks,
    /// however many of them come and go.
    pub(super) fn blocks_to_leave(&self) -> usize {
        let missing: usize = self.running.values().map(Sequence::blocks_missing).sum();
        let num_others = self.running.values().filter(|sequence| !self.is_in_reserve(sequence)).count();
        missing + num_others + self.reserve_left()
    }

    /// Whether a waiting sequence, of a tenant that has none in the batch, finds its blocks in the reserve.
    pub(super) fn fits_the_reserve(&self, sequence: &Sequence) -> bool {
        self.running.of_tenant(&sequence.tenant) == 0
            && is_short(sequence, self.pool.reserve())
            && needs(sequence) <= self.reserve_left()
    }

    /// Whether `id` may grow to `num_tokens` as far as the reserve is concerned.
    pub(super) fn leaves_the_reserve(&self, id: SequenceId, num_tokens: usize) -> bool {
        let Some(sequence) = self.running.get(id) else { return false };
        let missing = blocks_for(num_tokens).saturating_sub(sequence.blocks.as_slice().len());
        missing == 0
            || self.is_in_reserve(sequence)
            || self.running.len() == 1
            || self.pool.num_free() >= missing + self.reserve_left()
    }

    /// Whether a running sequence is one of those whom the reserve is for.
    fn is_in_reserve(&self, sequence: &Sequence) -> bool {
        is_short(sequence, self.pool.reserve()) && self.running.of_tenant(&sequence.tenant) == 1
    }
}

/// Whether a sequence needs so little that it may come into a reserve of so many blocks.
fn is_short(sequence: &Sequence, reserve: usize) -> bool {
    reserve > 0 && needs(sequence) <= (reserve / 2).max(1)
}

/// Blocks for what a sequence has, and the next token.
fn needs(sequence: &Sequence) -> usize {
    blocks_for(sequence.tokens.len() + 1)
}
