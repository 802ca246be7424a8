//! What the other side of a generation hears.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use souk_protocol::{FinishReason, JobEvent, JobFailure, SamplingParams, TokenId, TokenLogprobs, TokenOut, Usage};
use souk_queue::EventSink;
use tokio::sync::oneshot;

use super::inbox::NewRequest;
use super::sampler::{ChoiceContext, NotFinite, Sampler, TokenCounts};
use super::sequence::{Part, Sequence};
use super::{Ended, count};

/// The part of a generation that the scheduler does not need: how to choose, and where the answer goes.
pub(super) struct Answer {
    sink: Box<dyn EventSink>,
    sampling: SamplingParams,
    counts: Option<TokenCounts>,
    logprobs: Option<u8>,
    prompt_logprobs: Option<u8>,
    num_generated: Arc<AtomicU32>,
    ended: oneshot::Sender<Ended>,
    started: bool,
}

/// Why a generation leaves the batch before its answer is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Break {
    Cancelled,
    Failed(JobFailure),
}

impl Answer {
    pub(super) fn new(new: NewRequest) -> Self {
        let job = new.request.job;
        Self {
            sink: new.request.sink,
            counts: TokenCounts::for_job(&job.sampling, &job.prompt, &job.resume),
            sampling: job.sampling,
            logprobs: job.logprobs,
            prompt_logprobs: job.prompt_logprobs,
            num_generated: new.num_generated,
            ended: new.ended,
            started: false,
        }
    }

    /// Whether nobody reads the answer any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.sink.is_closed()
    }

    /// Takes in what a step computed for this generation: `rows` holds the logits of `part.logits`.
    ///
    /// # Errors
    /// The [`Break`] that ends the generation.
    pub(super) fn take(
        &mut self,
        sequence: &mut Sequence,
        part: &Part,
        rows: &mut [f32],
        sampler: &mut Sampler,
    ) -> Result<(), Break> {
        if !std::mem::replace(&mut self.started, true) {
            self.send(JobEvent::Started)?;
        }
        sequence.num_computed = part.positions.end;
        let vocab_size = rows.len() / part.logits.len().max(1);
        let mut rows = part.logits.clone().zip(rows.chunks_exact_mut(vocab_size.max(1)));
        if sequence.num_scored < sequence.num_prompt {
            self.score(sequence, &mut rows, sampler)?;
        }
        match rows.next() {
            Some((position, row)) => self.choose(sequence, position, row, sampler),
            None => Ok(()),
        }
    }

    /// Reports the logprobs of a prompt that has been scored without a step: one token, which has none.
    ///
    /// # Errors
    /// [`Break::Cancelled`] if nobody reads.
    pub(super) fn score_first(&mut self, sequence: &mut Sequence) -> Result<(), Break> {
        self.started = true;
        self.send(JobEvent::Started)?;
        sequence.num_scored = 1;
        self.send(JobEvent::PromptLogprobs(vec![None]))
    }

    /// Scores prompt tokens: the row at a position says how likely the next token was. Leaves the rows that score nothing.
    fn score<'a>(
        &self,
        sequence: &mut Sequence,
        rows: &mut impl Iterator<Item = (usize, &'a mut [f32])>,
        sampler: &mut Sampler,
    ) -> Result<(), Break> {
        let num_top = self.prompt_logprobs.unwrap_or(0);
        let mut scores: Vec<Option<TokenLogprobs>> = Vec::new();
        if sequence.num_scored == 0 {
            scores.push(None);
            sequence.num_scored = 1;
        }
        while sequence.num_scored < sequence.num_prompt {
            let Some((position, row)) = rows.next() else { break };
            let token = sequence.tokens[position + 1];
            let score = sampler.score(row, token, num_top).map_err(|error| not_finite(error, position))?;
            scores.push(Some(score));
            sequence.num_scored = position + 2;
        }
        if scores.is_empty() { Ok(()) } else { self.send(JobEvent::PromptLogprobs(scores)) }
    }

    /// Chooses the token that follows `position`.
    fn choose(
        &mut self,
        sequence: &mut Sequence,
        position: usize,
        row: &mut [f32],
        sampler: &mut Sampler,
    ) -> Result<(), Break> {
        let context = ChoiceContext {
            params: &self.sampling,
            counts: self.counts.as_ref(),
            position: count(position + 1),
            num_top: self.logprobs,
        };
        let token = sampler.choose(row, context).map_err(|error| not_finite(error, position))?;
        self.push(sequence, token)
    }

    fn push(&mut self, sequence: &mut Sequence, token: TokenOut) -> Result<(), Break> {
        let id: TokenId = token.id;
        let offset = count(sequence.num_generated());
        sequence.tokens.push(id);
        if let Some(counts) = &mut self.counts {
            counts.push(id);
        }
        self.num_generated.store(offset + 1, Ordering::Relaxed);
        self.send(JobEvent::Tokens { offset, tokens: vec![token] })
    }

    fn send(&self, event: JobEvent) -> Result<(), Break> {
        self.sink.send(event).map_err(|_| Break::Cancelled)
    }

    /// The answer is complete, or nobody wants it.
    pub(super) fn finish(self, sequence: &Sequence, reason: FinishReason) {
        let usage = usage(sequence);
        // If the reader is gone it has no use for the end either.
        let _ = self.sink.send(JobEvent::Finished { reason, usage });
        self.end(usage, Ok(reason));
    }

    pub(super) fn fail(self, sequence: &Sequence, failure: JobFailure) {
        self.end(usage(sequence), Err(failure));
    }

    fn end(self, usage: Usage, outcome: Result<FinishReason, JobFailure>) {
        // Whoever dropped the generation does not ask how it ended.
        let _ = self.ended.send(Ended { outcome, usage, sink: Some(self.sink) });
    }
}

fn usage(sequence: &Sequence) -> Usage {
    Usage {
        prompt_tokens: count(sequence.num_prompt),
        cached_tokens: 0,
        completion_tokens: count(sequence.num_generated()),
    }
}

fn not_finite(_: NotFinite, position: usize) -> Break {
    Break::Failed(JobFailure::NotFinite { position: count(position) })
}
