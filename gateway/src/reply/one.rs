//! One reply under way: from the events of a job to pieces.

use souk_protocol::{FinishReason, JobEvent, JobFailure, Outcome, TokenLogprobs, Usage};
use tokio::time::Instant;

use super::interleave::Pieces;
use super::piece::{Finish, Piece};
use super::rules::ReplyRules;
use super::text::ReplyText;
use crate::call::follow::RunningJob;
use crate::metrics;

/// One reply under way. Dropping it ends its job.
pub(crate) struct Reply {
    job: RunningJob,
    text: ReplyText,
    num_prompt_tokens: usize,
    /// Prompt logprobs that have come so far; `None` once they were passed on, or if nobody wants them.
    prompt: Option<Vec<Option<TokenLogprobs>>>,
    num_tokens: u32,
    /// What follows the piece that was returned last.
    next: Option<Piece>,
    over: bool,
    started: Instant,
    last_token: Option<Instant>,
}

impl Pieces for Reply {
    type Failure = JobFailure;

    async fn next(&mut self) -> Option<Result<Piece, JobFailure>> {
        Self::next(self).await
    }
}

impl Reply {
    pub(crate) fn new(job: RunningJob, rules: &ReplyRules<'_>) -> Self {
        Self {
            job,
            text: ReplyText::new(rules),
            num_prompt_tokens: rules.num_prompt_tokens,
            prompt: rules.prompt_logprobs.then(Vec::new),
            num_tokens: 0,
            next: None,
            over: false,
            started: Instant::now(),
            last_token: None,
        }
    }

    /// The next piece; `None` after [`Piece::End`] or a failure.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, JobFailure>> {
        if let Some(piece) = self.next.take() {
            return Some(Ok(piece));
        }
        while !self.over {
            match self.job.next().await {
                JobEvent::Started => {}
                JobEvent::PromptLogprobs(logprobs) => {
                    if let Some(piece) = self.on_prompt(logprobs) {
                        return Some(Ok(piece));
                    }
                }
                JobEvent::Tokens { tokens, .. } => {
                    self.measure(tokens.len());
                    let mut tokens = tokens.into_iter();
                    let stopped = tokens.by_ref().any(|token| {
                        self.num_tokens += 1;
                        self.text.push(token)
                    });
                    if stopped {
                        return Some(Ok(self.stop(tokens.len()).await));
                    }
                    if let Some(piece) = self.text.take() {
                        return Some(Ok(piece));
                    }
                }
                JobEvent::Finished { reason, usage } => return Some(self.finish(reason, usage)),
                JobEvent::Failed(failure) => {
                    self.over = true;
                    return Some(Err(failure));
                }
            }
        }
        None
    }

    /// Ends the reply before its time, though nothing of it has failed: a hook has all that it wants.
    pub(crate) async fn cut(&mut self) -> Usage {
        self.over = true;
        self.next = None;
        Usage { cached_tokens: self.job.stop(0).await, ..self.so_far() }
    }

    /// What it took until now, as far as it is known here.
    pub(crate) const fn so_far(&self) -> Usage {
        let prompt_tokens = self.num_prompt_tokens as u32;
        Usage { prompt_tokens, cached_tokens: 0, completion_tokens: self.num_tokens, prefill_began: true }
    }

    /// A hook has failed, or refused an answer of the request: it counts as that, however its job has ended.
    pub(crate) fn ended_by_hook(&mut self, outcome: Outcome) {
        self.over = true;
        self.job.ended_by_hook(outcome);
    }

    fn on_prompt(&mut self, logprobs: Vec<Option<TokenLogprobs>>) -> Option<Piece> {
        let prompt = self.prompt.as_mut()?;
        prompt.extend(logprobs);
        if prompt.len() < self.num_prompt_tokens {
            return None;
        }
        self.prompt.take().map(Piece::Prompt)
    }

    /// A stop string is complete: the job is no longer wanted. `beyond` tokens have come that lie behind it.
    async fn stop(&mut self, beyond: usize) -> Piece {
        self.over = true;
        let usage = Usage { cached_tokens: self.job.stop(beyond).await, ..self.so_far() };
        let end = Piece::End { finish: Finish::Stop, usage };
        self.before_end(end)
    }

    fn finish(&mut self, reason: FinishReason, usage: Usage) -> Result<Piece, JobFailure> {
        self.over = true;
        let finish = match reason {
            FinishReason::Stop => Finish::Stop,
            FinishReason::Length => Finish::Length,
            // Not by us.
            FinishReason::Cancelled => return Err(JobFailure::ShuttingDown),
        };
        self.text.finish();
        Ok(self.before_end(Piece::End { finish, usage }))
    }

    /// What is left of the text, then `end`.
    fn before_end(&mut self, end: Piece) -> Piece {
        match self.text.take() {
            Some(rest) => {
                self.next = Some(end);
                rest
            }
            None => end,
        }
    }

    fn measure(&mut self, num_tokens: usize) {
        let now = Instant::now();
        match self.last_token.replace(now) {
            None => metrics::first_token(now - self.started),
            Some(last) => metrics::next_tokens(now - last),
        }
        metrics::completion_tokens(num_tokens);
    }
}
