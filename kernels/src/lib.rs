//! Numeric ops for llama-family models on the CPU: quantised matmul, grouped LoRA, attention and the small ops between them.
//!
//! What it is: a [`Cpu`] (a thread team and an instruction set chosen at run time), packed weights ([`Matrix`],
//! [`LoraPair`]), activation buffers ([`Activations`]), a paged cache ([`KvCache`]) and the functions in [`ops`] that
//! work on them. Results do not depend on the batch, the threads or the instruction set, bit for bit.
//!
//! What it is not: a tensor library, a model, a scheduler. It knows no tensor names and reads no files.
//!
//! Where to begin: [`ops`] for what can be computed; `lanes` for the kernels, written once over sixteen lanes; `cpu` for
//! what a lane is on each instruction set; `reference` for the plain truth that the tests compare with; docs/kernels.md for
//! the layout of tiles and the figures.
//!
//! ```
//! use souk_kernels::{Activations, Cpu, Matrix, WeightType, ops};
//!
//! let cpu = Cpu::new(2);
//! let weights: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let matrix = Matrix::pack(WeightType::F32, 2, 2, &weights, None)?;
//! let mut x = Activations::new(1, 2);
//! ops::quantize(&cpu, &[1.0, -1.0], 1, &mut x)?;
//! let mut out = [0.0; 2];
//! let target = ops::MatmulTarget { matrix: &matrix, out: &mut out, mode: ops::OutputMode::Overwrite, runs: &[] };
//! ops::matmul(&cpu, &x, 1, &mut [target], &mut ops::LoraScratch::new())?;
//! assert_eq!(out, [-1.0, -1.0]);
//! # Ok::<(), souk_kernels::KernelError>(())
//! ```

pub mod ops;
pub mod reference;

mod activations;
mod adapter;
mod arena;
mod cpu;
mod error;
mod kv_cache;
mod lanes;
mod limits;
mod matrix;
mod pack;
mod shared;
mod slab;
mod team;

pub use activations::Activations;
pub use adapter::{LoraPair, MAX_RANK, PairSizes, SlabType};
pub use arena::FloatBuffer;
pub use cpu::{Cpu, Isa, StepGuard};
pub use error::KernelError;
pub use kv_cache::{BLOCK_TOKENS, KvCache, MAX_HEAD_DIM};
pub use limits::MachineLimits;
pub use matrix::{Matrix, WeightType};
pub use slab::Regions;
