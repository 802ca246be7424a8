//! What constraints may cost.

use std::time::Duration;

/// What compiling constraints may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConstraintLimits {
    /// Bytes of a source.
    pub source_bytes: usize,
    /// Time to compile one; also how long to wait for a free thread.
    pub compile_time: Duration,
    /// Constraints that are compiled at once, each on a thread of its own. One that goes beyond its time is refused at
    /// once, and its thread is free when the counted limits end it, within about a second.
    pub concurrent_compiles: usize,
    /// Work of writing a constraint's expressions down, of finding out which of them match anything, and of the first move
    /// from each: 50,000 units are about a millisecond, and a schema of 64 KiB needs some 40,000.
    pub compile_work: u64,
    /// Lexer work of one mask, which is computed between two steps of the engine: 100,000 units are up to 5 ms. An answer
    /// that needs more ends with a failure. Usual masks need some hundred.
    pub mask_work: u64,
    /// Memory of a compiled lexer; each answer has a copy.
    pub lexer_bytes: usize,
    /// Compiled constraints, and refusals, that are kept.
    pub cached: usize,
    /// Memory of those.
    pub cached_bytes: usize,
}

impl Default for ConstraintLimits {
    fn default() -> Self {
        Self {
            source_bytes: 64 << 10,
            compile_time: Duration::from_secs(2),
            concurrent_compiles: 2,
            compile_work: 200_000,
            mask_work: 100_000,
            lexer_bytes: 8 << 20,
            cached: 64,
            cached_bytes: 32 << 20,
        }
    }
}
