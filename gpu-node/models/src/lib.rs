//! Base models and adapters: from their files to numbers, and the forward pass over them.
//!
//! - [`base`]: where the base model comes from and how it is read.
//! - [`adapter`]: from a checked adapter's files to slabs that the model runs.
//! - [`llama`]: the forward pass on the kernels, behind the port of `souk-runner`.
//!
//! This crate knows neither requests nor what is resident; the arithmetic is in `souk-kernels`. Begin with
//! [`base::load`].

pub mod adapter;
pub mod base;
pub mod llama;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
