//! A base model in memory.

use souk_protocol::BaseModel;

use super::weights::LlamaWeights;

/// A base model, ready to be run and to be described to others.
#[derive(Debug)]
pub struct LoadedBase {
    /// Identity, shape and tokenizer.
    pub model: BaseModel,
    /// Weights, packed for the kernels.
    pub weights: LlamaWeights,
}
