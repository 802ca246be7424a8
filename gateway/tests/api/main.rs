//! The gateway as its callers meet it: its router, a real queue in memory, and a node that plays scripts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chat;
mod completions;
mod cors;
mod counting;
mod errors;
mod failures;
mod hooks;
mod left;
mod limits;
#[cfg(has_redis)]
mod lost_queue;
mod models;
mod nodes;
mod operations;
mod paced;
mod records;
mod repeats;
mod rows;
mod stack;
mod switched;
mod take_down;
mod tokenizer;
mod tokens;
mod trees;
mod usage;
mod version_templates;
mod weights;

#[path = "../support/mod.rs"]
mod support;
