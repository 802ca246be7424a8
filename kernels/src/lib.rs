//! Numeric ops for llama-family models: quantised matmul, grouped LoRA, attention and the small ops between them.
//!
//! What it is: the words that all backends share (what numbers are stored as, [`WeightType`]; [`runs`]: rows, positions
//! and the runs of rows on which adapters act), the plain truth that the tests compare with ([`reference`]), and one
//! folder for each backend, of which there is one: [`cpu`].
//!
//! What it is not: a tensor library, a model, a scheduler. It knows no tensor names and reads no files.
//!
//! Where to begin: [`cpu::ops`] for what can be computed; docs/kernels.md for the layout of tiles and the figures.
//!
//! ```
//! use souk_kernels::cpu::{Activations, Cpu, Matrix, ops};
//! use souk_kernels::{OutputMode, WeightType};
//!
//! let cpu = Cpu::new(2);
//! let weights: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
//! let matrix = Matrix::pack(WeightType::F32, 2, 2, &weights, None)?;
//! let mut x = Activations::new(1, 2);
//! ops::quantize(&cpu, &[1.0, -1.0], 1, &mut x)?;
//! let mut out = [0.0; 2];
//! let target = ops::MatmulTarget { matrix: &matrix, out: &mut out, mode: OutputMode::Overwrite, runs: &[] };
//! ops::matmul(&cpu, &x, 1, &mut [target], &mut ops::LoraScratch::new())?;
//! assert_eq!(out, [-1.0, -1.0]);
//! # Ok::<(), souk_kernels::KernelError>(())
//! ```

pub mod cpu;
pub mod reference;
pub mod runs;

mod error;
mod format;

pub use error::KernelError;
pub use format::{MAX_RANK, SlabType, WeightType};
pub use runs::{AttentionSpan, BLOCK_TOKENS, HeadOutput, NormWeights, OutputMode, RowSelection};
