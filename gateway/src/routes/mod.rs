//! One file per action: handler, answer and their shapes together.

pub mod chat;
pub mod completions;
pub mod detokenize;
pub mod metrics;
pub mod model;
pub mod models;
pub mod ready;
pub mod tokenize;
pub mod tokenizer_info;

mod url;
