//! What a caller asks for.

use super::prepare::{Input, Length};
use crate::request::GenerationParams;

/// What a caller asks for, each field checked by itself.
pub(crate) struct Ask {
    /// A base model's id or an adapter's reference.
    pub(crate) model: String,
    pub(crate) input: Input,
    pub(crate) length: Length,
    /// Alternatives to report per generated token; `None` reports no logprobs.
    pub(crate) logprobs: Option<u8>,
    /// The same for prompt tokens.
    pub(crate) prompt_logprobs: Option<u8>,
    /// Whether the token that ends an answer is listed among the scored ones.
    pub(crate) score_ending: bool,
    pub(crate) params: GenerationParams,
}
