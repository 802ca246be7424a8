//! The real [`ModelRunner`](souk_runner::ModelRunner): a llama-family forward pass on the CPU kernels.
//!
//! Begin with [`LlamaRunner`]; its `run` is one pass through the layers. Everything that it writes to is allocated when
//! it is built. Every output row depends on the rows of its own sequence alone, bit for bit, however a step is put
//! together.

mod adapter_runs;
mod forward;
mod layout;
mod profile;
mod recycle;
mod runner;
mod threads;
mod workspace;

pub use profile::{OpClass, OpFigures, StepProfile, Work};
pub use runner::{KvBudget, LlamaRunner, ModelError, RunnerConfig};
pub use souk_kernels::cpu::MachineLimits;
