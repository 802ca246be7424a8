//! What makes a reply of a job's tokens.

use std::sync::Arc;

use souk_protocol::TokenId;

use crate::served::ServedBase;

/// What to make of a job's tokens.
pub(crate) struct ReplyRules<'a> {
    pub(crate) base: &'a Arc<ServedBase>,
    pub(crate) stops: &'a [String],
    /// Tokens that end the answer and are not part of it.
    pub(crate) eos_tokens: &'a [TokenId],
    /// Whether the ending token is listed among the scored tokens.
    pub(crate) score_ending: bool,
    pub(crate) num_prompt_tokens: usize,
    pub(crate) prompt_logprobs: bool,
}
