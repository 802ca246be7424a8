//! Request bodies: parsed at the edge into types that only the check can build.

pub mod adapters;
pub(crate) mod body;
pub mod chat;
pub mod completion;
pub mod constraint;
pub(crate) mod fields;
pub(crate) mod raw;
pub mod sampling;

pub use adapters::WeightedAdapter;
pub use chat::{ChatMessage, ChatRequest, Role};
pub use completion::{CompletionRequest, Prompt};
pub use constraint::{ConstraintFields, RequestedConstraint};
pub use sampling::{GenerationParams, StreamOptions};

#[cfg(test)]
mod edges;
