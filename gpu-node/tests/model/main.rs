//! The model against what others say that it should answer: reference outputs of real adapters, candle's own llama, and
//! itself in other batches.

mod batch;
mod driver;
mod fixtures;
mod hostile;
mod hub;
mod oracle;
mod tiny;
