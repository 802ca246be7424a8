//! The ops. Each takes the backend first, checks every shape before it writes anything, and never allocates (but for a
//! [`LoraScratch`] or [`HeadScratch`] that has not yet grown to its size).
//!
//! All matrices are f32, row-major: a buffer of `num_rows` rows of width `cols` holds at least `num_rows * cols`
//! values. Every output element is a fixed function of its own row: it has the same bits whatever the other rows, their
//! number, the number of threads, and the instruction set.

mod attention;
mod exp;
mod head;
mod lora;
mod matmul;
mod rope;
mod rows;

pub use attention::{AttentionScratch, attention};
pub use exp::exp_scaled;
pub use head::{HeadScratch, head};
pub use lora::LoraScratch;
pub use matmul::{MatmulTarget, matmul};
pub use rope::rope_store;
pub use rows::{embed, quantize, rms_norm, swiglu};
