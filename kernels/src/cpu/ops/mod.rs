//! The ops. Each takes the backend first, checks every shape before it writes anything, and never allocates (but for a
//! [`LoraScratch`] or [`HeadScratch`] that has not yet grown to its size).
//!
//! All matrices are f32, row-major: a buffer of `num_rows` rows of width `cols` holds at least `num_rows * cols` values.
//! Every output element is a fixed function of its own row: it has the same bits whatever the other rows, their number,
//! the number of threads, and the instruction set.

mod attention;
mod head;
pub(crate) mod lora;
mod matmul;
mod rope;
mod rows;
mod weights;

pub use attention::{AttentionScratch, AttentionSpan, attention};
pub use head::{HeadOutput, HeadScratch, head};
pub use lora::{LoraRun, LoraScratch};
pub use matmul::{MatmulTarget, OutputMode, matmul};
pub use rope::{RopeTable, rope_store};
pub use rows::{NormWeights, RowSelection, embed, quantize, rms_norm, swiglu};
pub use weights::exp_weights;

pub use crate::adapter::{LoraPair, PairSizes, SlabType};
pub use crate::kv_cache::KvCache;
