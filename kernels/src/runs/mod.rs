//! The words that ops of all backends share: rows, positions, and the runs of rows on which adapters act.

mod lora;
mod rows;

pub(crate) use lora::{LoraEntry, LoraPlan, MODULES_PER_PLAN, ShrinkUnit};
pub use lora::{LoraRun, Pair};
pub use rows::{AttentionSpan, BLOCK_TOKENS, HeadOutput, NormWeights, OutputMode, RowSelection};
