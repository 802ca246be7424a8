//! The real [`ModelRunner`](souk_runner::ModelRunner): a llama-family forward pass on the CPU kernels.
//!
//! Begin with [`LlamaRunner`]; its `run` is one pass through the layers. Everything that it writes to is allocated when it
//! is built. Every output row depends on the rows of its own sequence alone, bit for bit, however a step is put together.

mod adapter_runs;
mod forward;
mod llama;
mod plan;
mod profile;
mod recycle;
mod workspace;

pub use llama::{KvBudget, LlamaRunner, ModelError, RunnerConfig};
pub use profile::{OpClass, OpFigures, StepProfile, Work};
pub use souk_kernels::MachineLimits;
