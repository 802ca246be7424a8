//! Takes work from the queue, runs it on one base model for many adapters in one continuous batch, answers.
//!
//! - [`base`]: where the base model comes from and how it is read.
//! - [`adapters`]: from files of the PEFT format to slabs that the model runs.
//! - [`memory`]: the one pool that KV blocks and adapters share.
//! - [`model`]: the forward pass on the kernels.
//! - [`constraint`]: what an answer must look like, token by token.
//! - [`engine`]: which rows run in which step, and what becomes of their logits.
//! - [`node`]: jobs in, answers out.
//!
//! This crate knows neither tenants nor HTTP; the arithmetic is in `souk-kernels`. Begin with
//! [`engine::runner::ModelRunner`], the port between the engine and the model.

pub mod adapters;
mod background;
pub mod base;
pub mod constraint;
pub mod engine;
pub mod memory;
pub mod model;
pub mod node;
