//! The port between the engine and whatever computes: the real model, or a script in scheduler tests.
//!
//! Begin with [`ModelRunner`]: its caller decides what runs in a [`Step`], and it knows how. A leaf: it knows neither
//! of the two sides.

mod device;
#[cfg(feature = "scripted")]
pub mod scripted;

use std::sync::Arc;

use souk_protocol::TokenId;

pub use self::device::DeviceAdapter;

/// Number of tokens that one KV block holds.
pub const BLOCK_TOKENS: usize = souk_kernels::BLOCK_TOKENS;

/// A KV block of the device pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(pub u32);

/// One pass through the model: a row per token. Rows of one sequence are adjacent and ascending in position.
#[derive(Debug, Default)]
pub struct Step {
    /// Token of each row.
    pub tokens: Vec<TokenId>,
    /// Position of each row in its own context, from 0.
    pub positions: Vec<u32>,
    /// Sequences in row order; together they cover all rows.
    pub sequences: Vec<StepSequence>,
    /// Which adapters act on which rows, in row order, without overlap. Rows that no run covers are base rows.
    pub adapter_runs: Vec<AdapterRun>,
    /// Rows of which all logits are wanted, ascending.
    pub logit_rows: Vec<u32>,
    /// Rows of which only the best token is wanted, ascending; none of them is in `logit_rows`.
    pub greedy_rows: Vec<u32>,
}

/// The rows of one sequence in a step.
#[derive(Debug)]
pub struct StepSequence {
    /// Index of the first row.
    pub first_row: usize,
    /// Number of rows; 1 in decode.
    pub num_rows: usize,
    /// Blocks that hold positions 0 up to the last row's, in order.
    pub blocks: Vec<BlockId>,
}

/// Adjacent rows on which the same adapters act.
#[derive(Debug)]
pub struct AdapterRun {
    /// Index of the first row.
    pub first_row: usize,
    /// How many rows it has, from `first_row` on.
    pub num_rows: usize,
    /// Adapters with their weights, in order of application.
    pub adapters: Arc<[(Arc<DeviceAdapter>, f32)]>,
}

/// What a runner can take. Fixed when it is built.
#[derive(Clone, Copy, Debug)]
pub struct RunnerLimits {
    /// Most rows in a step.
    pub max_rows: usize,
    /// Most rows in a step of which logits or the best token are wanted, both kinds together.
    pub max_logit_rows: usize,
    /// KV blocks in the pool.
    pub num_blocks: usize,
    /// Width of a row of logits.
    pub vocab_size: usize,
    /// Longest context in tokens.
    pub context_length: usize,
}

/// What a step gives back. It lasts until the next step.
pub struct StepOutput<'a> {
    /// `[logit_rows, vocab_size]`, row-major. The caller may change them (penalties).
    pub logits: &'a mut [f32],
    /// The token with the largest logit, the lower id of equals, for each of `greedy_rows`. `None`: a logit of the row
    /// is not finite.
    pub greedy: &'a [Option<TokenId>],
    /// The runner's threads, which have nothing to do until the next step.
    pub threads: &'a dyn Threads,
}

/// Threads that share work.
pub trait Threads {
    /// How many there are, the caller's own among them.
    fn num_threads(&self) -> usize;

    /// Does `work(0)` to `work(num_items - 1)`, each once, in no order, and returns when all are done.
    fn for_each(&self, num_items: usize, work: &(dyn Fn(usize) + Sync));
}

/// The caller's own thread and no other.
pub struct CallerAlone;

impl Threads for CallerAlone {
    fn num_threads(&self) -> usize {
        1
    }

    fn for_each(&self, num_items: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..num_items).for_each(work);
    }
}

/// A step that could not run at all. A single bad request is not such an error: its logits are not finite, and the
/// engine ends that request alone.
#[derive(Debug, thiserror::Error)]
#[error("the model cannot run the step: {0}")]
pub struct RunnerError(pub String);

/// Computes steps. One thread owns it.
pub trait ModelRunner: Send {
    /// What fits.
    fn limits(&self) -> RunnerLimits;

    /// Runs one step: writes K and V of every row into its block and returns what the step asks for.
    ///
    /// # Errors
    /// [`RunnerError`] if the step breaks a limit or names a block out of range.
    fn run(&mut self, step: &Step) -> Result<StepOutput<'_>, RunnerError>;

    /// Bytes of device memory that a block takes once it has been written.
    fn block_bytes(&self) -> usize;

    /// Gives the memory of these blocks back. What they hold is lost; they can be written again.
    fn discard_blocks(&mut self, _blocks: &[BlockId]) {}
}
