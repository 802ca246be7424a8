//! The rule by which attempts of a job make one stream.

use souk_protocol::JobEvent;

/// Lets the events of the highest attempt pass, each once.
#[derive(Clone, Debug, Default)]
pub struct Fence {
    /// No lower attempt passes.
    attempt: u32,
    /// Tokens of the answer that have passed.
    num_tokens: u32,
    /// Prompt positions whose logprobs have passed, and how many of them the live attempt has repeated.
    num_prompt: usize,
    num_prompt_repeated: usize,
    over: bool,
}

/// Why an event does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPassed {
    /// A later attempt has begun, this one was given up, or the job is over.
    #[error("the attempt is not the live one")]
    Stale,
    /// Tokens before it are missing.
    #[error("the event begins at token {offset} of the answer and {num_tokens} have come")]
    Gap {
        /// Where it begins.
        offset: u32,
        /// What has passed.
        num_tokens: u32,
    },
}

impl Fence {
    /// What is left of an event: nothing if it is a repeat.
    ///
    /// # Errors
    /// [`NotPassed`].
    pub fn pass(&mut self, attempt: u32, event: JobEvent) -> Result<Option<JobEvent>, NotPassed> {
        if attempt < self.attempt || self.over {
            return Err(NotPassed::Stale);
        }
        if attempt > self.attempt {
            self.attempt = attempt;
            self.num_prompt_repeated = 0;
        }
        Ok(match event {
            JobEvent::Tokens { offset, .. } if offset > self.num_tokens => {
                return Err(NotPassed::Gap { offset, num_tokens: self.num_tokens });
            }
            JobEvent::Tokens { offset, mut tokens } => {
                let repeated = (self.num_tokens.saturating_sub(offset) as usize).min(tokens.len());
                tokens.drain(..repeated);
                let offset = offset + repeated as u32;
                self.num_tokens = self.num_tokens.max(offset + tokens.len() as u32);
                (!tokens.is_empty()).then_some(JobEvent::Tokens { offset, tokens })
            }
            JobEvent::PromptLogprobs(mut logprobs) => {
                let repeated = (self.num_prompt - self.num_prompt_repeated).min(logprobs.len());
                self.num_prompt_repeated += logprobs.len();
                self.num_prompt = self.num_prompt.max(self.num_prompt_repeated);
                logprobs.drain(..repeated);
                (!logprobs.is_empty()).then_some(JobEvent::PromptLogprobs(logprobs))
            }
            event => {
                self.over = event.is_last();
                Some(event)
            }
        })
    }

    /// Whether an attempt may still send.
    #[must_use]
    pub const fn admits(&self, attempt: u32) -> bool {
        attempt >= self.attempt && !self.over
    }

    /// Lets nothing of this attempt and of those before it pass any more.
    pub const fn shut(&mut self, attempt: u32) {
        let next = attempt.saturating_add(1);
        if next > self.attempt {
            self.attempt = next;
            self.num_prompt_repeated = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_protocol::TokenOut;

    use super::*;

    fn tokens(offset: u32, ids: std::ops::Range<u32>) -> JobEvent {
        JobEvent::Tokens { offset, tokens: ids.map(|id| TokenOut { id, logprobs: None }).collect() }
    }

    #[test]
    fn prompt_logprobs_that_a_later_attempt_repeats_are_taken_out() {
        let mut fence = Fence::default();
        let scores = |count: usize| JobEvent::PromptLogprobs(vec![None; count]);
        assert_eq!(fence.pass(1, scores(3)), Ok(Some(scores(3))));
        assert_eq!(fence.pass(2, scores(2)), Ok(None));
        assert_eq!(fence.pass(2, scores(4)), Ok(Some(scores(3))));
        assert_eq!(fence.pass(2, scores(1)), Ok(Some(scores(1))));
    }

    #[test]
    fn nothing_passes_of_an_attempt_that_was_given_up_and_the_next_goes_on() {
        let mut fence = Fence::default();
        assert_eq!(fence.pass(1, tokens(0, 0..2)), Ok(Some(tokens(0, 0..2))));
        fence.shut(1);
        assert!(!fence.admits(1) && fence.admits(2));
        assert_eq!(fence.pass(1, tokens(2, 2..3)), Err(NotPassed::Stale));
        assert_eq!(fence.pass(2, tokens(1, 1..3)), Ok(Some(tokens(2, 2..3))));
        fence.shut(1);
        assert!(fence.admits(2), "that is long past");
    }

    #[test]
    fn tokens_with_a_hole_before_them_do_not_pass() {
        let mut fence = Fence::default();
        assert_eq!(fence.pass(1, tokens(1, 1..2)), Err(NotPassed::Gap { offset: 1, num_tokens: 0 }));
        assert_eq!(fence.pass(1, tokens(0, 0..1)), Ok(Some(tokens(0, 0..1))));
    }

    proptest! {
        /// Token `n` has the id `n`, as sampling by position gives every attempt the same.
        #[test]
        fn whatever_attempts_say_in_whatever_order_the_answer_has_no_hole_and_no_repeat(
            said in proptest::collection::vec((1u32..6, 0u32..30, 0u32..12), 0..60),
        ) {
            let mut fence = Fence::default();
            let (mut passed, mut last) = (Vec::new(), 0);
            for (attempt, offset, count) in said {
                match fence.pass(attempt, tokens(offset, offset..offset + count)) {
                    Ok(Some(JobEvent::Tokens { offset, tokens })) => {
                        prop_assert_eq!(offset as usize, passed.len());
                        prop_assert!(attempt >= last);
                        passed.extend(tokens.iter().map(|token| token.id));
                    }
                    Ok(_) => {}
                    Err(NotPassed::Stale) => prop_assert!(attempt < last),
                    Err(NotPassed::Gap { .. }) => prop_assert!(offset as usize > passed.len()),
                }
                last = last.max(attempt);
            }
            prop_assert_eq!(&passed, &(0..passed.len() as u32).collect::<Vec<_>>());
        }
    }
}
