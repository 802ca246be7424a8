//! A sequence: one generation as the scheduler sees it.

use std::ops::Range;
use std::time::Instant;

use souk_protocol::{FinishReason, TenantId, TokenId};
use souk_runner::BLOCK_TOKENS;

use super::adapter_set::AdapterSet;
use super::blocks::{BlockList, blocks_for};
use super::draft::Draft;
use super::prefix::{BlockKey, KeyChain};

/// Order of admission to the engine: lower came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SequenceId(pub(crate) u64);

/// Context, progress and KV blocks of one generation.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Its identity and age.
    pub(crate) id: SequenceId,
    /// Whose it is.
    pub(crate) tenant: TenantId,
    /// Prompt and answer so far.
    pub(crate) tokens: Vec<TokenId>,
    /// How many of `tokens` are the prompt.
    pub(crate) num_prompt: usize,
    /// How many of `tokens` have their K and V in `blocks`.
    pub(crate) num_computed: usize,
    /// Of how many prompt tokens the logprobs are reported; equal to `num_prompt` where nobody asked.
    pub(crate) num_scored: usize,
    /// Whether only the best token of its rows is wanted and never their logits.
    pub(crate) is_plain_greedy: bool,
    /// Length at which generation ends: the prompt and `max_tokens`, or the context's end if that is nearer.
    pub(crate) max_len: usize,
    /// Tokens that end the answer.
    pub(crate) eos_tokens: Vec<TokenId>,
    /// When nobody wants the answer any more.
    pub(crate) deadline: Option<Instant>,
    /// Whether a constraint is met and lets nothing but the end follow.
    pub(crate) is_complete: bool,
    /// What acts on its rows.
    pub(crate) adapters: AdapterSet,
    /// Where its K and V are.
    pub(crate) blocks: BlockList,
    /// What may follow `tokens`, for the step that is being planned.
    pub(crate) draft: Draft,
    /// Under which names others find them; `None` without a prefix cache.
    pub(crate) chain: Option<KeyChain>,
    /// How many of the prompt's tokens had their K and V in the cache when they were first needed.
    pub(crate) num_cached: usize,
    /// Whether it has given up its blocks before, so that what it finds again is its own.
    pub(crate) was_preempted: bool,
    /// Steps in a row for which its adapters did not fit into the bound on bytes, or there was no row.
    pub(crate) num_sat_out: usize,
}

/// Rows of one sequence in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Whose.
    pub(crate) sequence: SequenceId,
    /// Positions that are computed.
    pub(crate) positions: Range<usize>,
    /// Positions whose logits, or best token, are wanted; within `positions`.
    pub(crate) logits: Range<usize>,
}

impl Sequence {
    /// What to compute next within a budget; `None` if nothing fits. Only the last prompt row and each row of a scored
    /// prompt need logits.
    #[must_use]
    pub(crate) fn next_part(&self, max_rows: usize, max_logit_rows: usize) -> Option<Part> {
        let first = self.num_computed;
        if self.num_scored < self.num_prompt {
            return self.next_scored_part(first, max_rows, max_logit_rows);
        }
        let mut end = self.tokens.len().min(first + max_rows);
        if end == self.tokens.len() && max_logit_rows == 0 {
            end -= 1;
        }
        let logits = if end == self.tokens.len() { end - 1..end } else { end..end };
        self.part(first..end, logits)
    }

    /// A part of a prompt whose logprobs are wanted. The row at position `p` scores the token at `p + 1`, so the
    /// prompt's last row scores nothing; its logits are wanted only if the answer begins there.
    fn next_scored_part(&self, first: usize, max_rows: usize, max_logit_rows: usize) -> Option<Part> {
        let first_scored = self.num_scored.max(1) - 1;
        let (computed_end, logits_end) = if self.max_len == self.num_prompt {
            (self.num_prompt - 1, self.num_prompt - 1)
        } else if self.tokens.len() == self.num_prompt {
            (self.num_prompt, self.num_prompt)
        } else {
            // The answer's first tokens are known: the prompt's last row is computed for its K and V alone.
            (self.num_prompt, self.num_prompt - 1)
        };
        let logits_start = first_scored.max(first);
        let end = computed_end.min(first + max_rows).min(logits_start + max_logit_rows);
        self.part(first..end, logits_start.min(end)..logits_end.min(end))
    }

    fn part(&self, positions: Range<usize>, logits: Range<usize>) -> Option<Part> {
        let logits = logits.start.min(logits.end)..logits.end;
        (positions.start < positions.end).then_some(Part { sequence: self.id, positions, logits })
    }

    /// Whether its next row is one that extends an answer: a row per step, at the pace at which the client reads.
    #[must_use]
    pub(crate) fn is_decoding(&self) -> bool {
        self.num_computed + 1 == self.tokens.len() && self.num_scored == self.num_prompt
    }

    /// Blocks that it will need to compute the tokens that it has, beyond those that it holds.
    #[must_use]
    pub(crate) fn blocks_missing(&self) -> usize {
        blocks_for(self.tokens.len()).saturating_sub(self.blocks.as_slice().len())
    }

    /// Tokens of the answer so far.
    #[must_use]
    pub(crate) const fn num_generated(&self) -> usize {
        self.tokens.len() - self.num_prompt
    }

    /// Whether the answer is complete, and why. A prompt must be scored first where that was asked for.
    #[must_use]
    pub(crate) fn finish_reason(&self) -> Option<FinishReason> {
        if self.num_scored < self.num_prompt {
            return None;
        }
        let last = self.tokens[self.num_prompt..].last();
        if self.is_complete || last.is_some_and(|last| self.eos_tokens.contains(last)) {
            return Some(FinishReason::Stop);
        }
        (self.tokens.len() >= self.max_len).then_some(FinishReason::Length)
    }

    /// Drafts at most `most` tokens, for which there must be free blocks. Returns how many.
    pub(crate) fn draft_ahead(&mut self, most: usize) -> usize {
        // The last token of an answer has no row, so a draft is of use only before it.
        let num_useful = self.max_len.saturating_sub(self.tokens.len() + 1);
        self.draft.propose(&self.tokens, most.min(num_useful));
        if !self.blocks.grow_to(self.tokens.len() + self.draft.tokens().len()) {
            self.draft.withdraw();
        }
        self.draft.tokens().len()
    }

    /// The token at a position, which may be a drafted one.
    #[must_use]
    pub(crate) fn token_at(&self, position: usize) -> TokenId {
        match position.checked_sub(self.tokens.len()) {
            None => self.tokens[position],
            Some(drafted) => self.draft.tokens()[drafted],
        }
    }

    /// Offers the full blocks of its computed tokens to others.
    pub(crate) fn share_computed(&mut self) {
        if let Some(chain) = &mut self.chain {
            chain.extend(&self.tokens[..self.num_computed], &self.adapters);
            self.blocks.share(&chain.keys()[..self.num_computed / BLOCK_TOKENS]);
        }
    }

    /// Takes over K and V of its next tokens as far as they have been computed before. The rows whose logits are wanted
    /// are left to compute. Returns how many tokens.
    pub(crate) fn adopt(&mut self) -> usize {
        let num_adoptable = self.num_adoptable_blocks();
        let Some(chain) = &mut self.chain else { return 0 };
        chain.extend(&self.tokens, &self.adapters);
        if self.blocks.adopt(&chain.keys()[..num_adoptable]) == 0 {
            return 0;
        }
        let before = std::mem::replace(&mut self.num_computed, self.blocks.num_shared() * BLOCK_TOKENS);
        self.num_computed - before
    }

    /// The key of the block that it computes next; `None` if that will not be full.
    #[must_use]
    pub(crate) fn next_key(&self) -> Option<BlockKey> {
        self.chain.as_ref()?.keys().get(self.num_computed / BLOCK_TOKENS).copied()
    }

    /// Whether it could adopt its next block if that were there.
    #[must_use]
    pub(crate) fn can_adopt_next(&self) -> bool {
        self.num_computed / BLOCK_TOKENS < self.num_adoptable_blocks()
    }

    /// Blocks before the first row whose logits are wanted: the last one, or the first one that scores a prompt token.
    const fn num_adoptable_blocks(&self) -> usize {
        let wanted = if self.num_scored < self.num_prompt { self.num_scored } else { self.tokens.len() };
        wanted.saturating_sub(1) / BLOCK_TOKENS
    }

    /// Gives up its blocks; what others do not keep is computed again later.
    pub(crate) fn restart(&mut self) {
        self.blocks.release();
        self.num_computed = 0;
    }
}
