//! The CPU backend.
//!
//! A [`Cpu`] is a thread team and an instruction set chosen at run time; packed weights ([`Matrix`], [`LoraPair`]),
//! activation buffers ([`Activations`]) and a paged cache ([`KvCache`]) lie in host memory, and the functions in
//! [`ops`] work on them. Results do not depend on the batch, the threads or the instruction set, bit for bit.
//!
//! Floors, from the top: `ops` check shapes and cut the work; `lanes` are the kernels, written once over sixteen lanes;
//! the layouts that they read; `backend` brings work to threads; `isa` says what a lane is on each instruction set.

pub mod ops;

mod activations;
mod arena;
mod backend;
pub(crate) mod isa;
mod kv_cache;
mod lanes;
mod matrix;
mod measure;
mod pack;
mod pair;
mod rope_table;
mod shared;
mod slab;
mod team;
mod tiles;

pub use activations::Activations;
pub use arena::FloatBuffer;
pub use backend::{Cpu, StepGuard};
pub use isa::Isa;
pub use kv_cache::{KvCache, MAX_HEAD_DIM};
pub use matrix::Matrix;
pub use measure::MachineLimits;
pub use pair::{LoraPair, LoraRun, PairSizes};
pub use rope_table::RopeTable;
pub use slab::Regions;
