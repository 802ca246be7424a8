//! Adapters in the PEFT format (`adapter_config.json` and `adapter_model.safetensors`), checked before anything else
//! touches them. Bytes come in, a plan or the list of everything that is wrong comes out; nothing here reads files.
//!
//! Begin with [`AdapterPlan::check`], which judges an adapter against one base model. [`WeightsIntake`] is the same for
//! files that arrive in pieces: it holds the header, never the body. [`MeasuredIntake`] also says what the adapter
//! does.
//!
//! A file that passes can be used with no further checks of shape: every pair is complete, fits its matrix, and has
//! the rank and scale that the configuration gives it.

pub mod config;
mod dialect;
pub mod effect;
mod fields;
pub mod intake;
pub mod modules;
pub mod names;
pub mod pattern;
pub mod plan;
pub mod problem;
mod range;
pub mod scan;
pub mod selector;
mod strict_json;
pub mod tensors;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
pub(crate) mod samples;

pub use crate::base_name::BaseClaim;
pub use config::LoraConfig;
pub use effect::{Effect, ModuleEffect, PairEffect};
pub use intake::{MeasuredIntake, WeightsIntake};
pub use modules::{Module, ModuleSite, NormSite};
pub use plan::{AdapterPlan, NormPlan, PairPlan};
pub use problem::{MAX_LISTED_PROBLEMS, Problem, ProblemCode, Problems};
pub use range::is_packable;
pub use scan::WeightsScan;
pub use tensors::{TensorEntry, TensorHeader, TensorType};

/// Largest `adapter_config.json`. Real ones have 1 to 40 KiB.
pub const MAX_CONFIG_BYTES: usize = 64 << 10;
/// Largest safetensors header. 8,192 tensors with long names need less.
pub const MAX_HEADER_BYTES: usize = 1 << 20;
/// Largest `__metadata__` in a safetensors header, keys and values together.
pub const MAX_METADATA_BYTES: usize = 64 << 10;
/// Most tensors in a file: DoRA on all seven matrices of 390 layers.
pub const MAX_TENSORS: usize = 8192;
/// Longest name of a tensor in a weights file, in bytes.
pub const MAX_TENSOR_NAME_BYTES: usize = 512;
/// Highest rank of a pair.
pub const MAX_RANK: usize = 256;
/// Most tokens that invoke an activated adapter. Chat templates' role markers have about five.
pub const MAX_INVOCATION_TOKENS: usize = 64;
/// Most entries in a list or pattern table of the configuration.
pub const MAX_PATTERNS: usize = 1024;
/// Longest regular expression in `target_modules` or `exclude_modules`. Unsloth writes 300 to 1,000 bytes.
pub const MAX_PATTERN_BYTES: usize = 16 << 10;
/// Longest regular expression that is a key of a table, or `layers_pattern`.
pub const MAX_KEY_BYTES: usize = 2 << 10;
/// Most regular expressions of one configuration that need backtracking.
pub const MAX_BACKTRACKING_PATTERNS: usize = 4;
