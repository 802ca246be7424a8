//! The model against what others say that it should answer: reference outputs of real adapters, candle's own llama, and
//! itself in other batches.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints its parity table")]

mod activated;
mod batch;
mod cache;
mod constraints;
mod driver;
mod fixtures;
mod hostile;
mod hub;
mod mixes;
mod oracle;
mod tiny;
