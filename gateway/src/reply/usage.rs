//! Token counts of a request.

use serde::Serialize;
use utoipa::ToSchema;

/// Token counts of a request, all choices together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct RequestUsage {
    /// Tokens of the prompts, each prompt once however many choices it has.
    pub prompt_tokens: u64,
    /// Generated tokens, those that ended the answers included.
    pub completion_tokens: u64,
    /// Prompt and generated tokens together.
    pub total_tokens: u64,
    /// More on the prompts.
    pub prompt_tokens_details: PromptTokensDetails,
}

/// More on the prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PromptTokensDetails {
    /// Prompt tokens whose work was reused from an earlier request.
    pub cached_tokens: u64,
}

impl RequestUsage {
    /// Adds the counts of one job. Of a prompt's choices only the first counts its prompt.
    pub(crate) fn add(&mut self, usage: souk_protocol::Usage, is_first_choice: bool) {
        if is_first_choice {
            self.prompt_tokens += u64::from(usage.prompt_tokens);
            self.prompt_tokens_details.cached_tokens += u64::from(usage.cached_tokens);
        }
        self.completion_tokens += u64::from(usage.completion_tokens);
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_counts_once_and_each_answer_counts() {
        let mut sum = RequestUsage::default();
        let usage =
            souk_protocol::Usage { prompt_tokens: 10, cached_tokens: 4, completion_tokens: 3, prefill_began: true };
        sum.add(usage, true);
        sum.add(usage, false);
        assert_eq!((sum.prompt_tokens, sum.completion_tokens, sum.total_tokens), (10, 6, 16));
        assert_eq!(sum.prompt_tokens_details.cached_tokens, 4);
    }
}
