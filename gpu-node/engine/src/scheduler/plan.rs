//! A step's bounds, and what is decided within them.

use std::fmt;

use crate::sequence::{Part, Sequence, SequenceId};

/// Bounds of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Most rows.
    pub(crate) max_rows: usize,
    /// Most rows whose logits are wanted.
    pub(crate) max_logit_rows: usize,
    /// Most prefill rows in a step that also has decode rows.
    pub(crate) max_prefill_rows_beside_decode: usize,
    /// Most sequences that hold KV blocks. At most `max_rows` and `max_logit_rows`, so that all can decode in one step.
    pub(crate) max_sequences: usize,
    /// Most rows, drafts included, in a step that drafts; 0 drafts nothing.
    pub(crate) max_speculative_rows: usize,
    /// Most bytes of adapters that a step reads. An adapter above it runs, if alone.
    pub(crate) max_adapter_bytes: usize,
}

/// The decision for one step.
#[derive(Debug, Default)]
pub(crate) struct StepPlan {
    /// What to compute. Parts with the same adapters are adjacent.
    pub(crate) parts: Vec<Part>,
    /// Sequences that gave up their blocks.
    pub(crate) preempted: Vec<SequenceId>,
    /// Sequences whose deadline has passed; they have left the scheduler.
    pub(crate) expired: Vec<Sequence>,
}

/// One line per step, for traces: `3:17` is a decode row of sequence 3 at position 17, `4:0..32` a chunk of its prompt,
/// `-5` a preemption.
impl fmt::Display for StepPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.iter().map(|Part { sequence, positions, .. }| match positions.len() {
            1 => format!("{}:{}", sequence.0, positions.start),
            _ => format!("{}:{}..{}", sequence.0, positions.start, positions.end),
        });
        let preempted = self.preempted.iter().map(|sequence| format!("-{}", sequence.0));
        f.write_str(&preempted.chain(parts).collect::<Vec<_>>().join(" "))
    }
}
