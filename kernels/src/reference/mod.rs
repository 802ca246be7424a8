//! The plain truth of every op, for tests: loops over `f64`, no lanes, no threads, no layout.

mod attention;
mod exp;
mod lora;
mod matmul;
mod rope;
mod rows;

pub use attention::{AttentionRow, attention};
pub use exp::exp_scaled;
pub use lora::lora_delta;
pub use matmul::matmul;
pub use rope::rope;
pub use rows::{rms_norm, swiglu};
