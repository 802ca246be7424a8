//! The part of a running answer that the scheduler does not need: sampling, events, and how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use souk_protocol::{FinishReason, JobEvent, JobFailure, SamplingParams, TokenId, TokenLogprobs, TokenOut, Usage};
use souk_queue::EventSink;
use tokio::sync::oneshot;

use super::advance::Advance;
use super::count::count;
use super::inbox::NewRequest;
use super::request::Ended;
use super::sampler::{BadRow, ChoiceContext, Sampler, TokenCounts};
use super::sequence::{Part, Sequence};
use crate::constraint::{Constraint, ConstraintError};

/// The part of a generation that the scheduler does not need: how to choose, and where the answer goes.
pub(super) struct RunningAnswer {
    sink: Box<dyn EventSink>,
    sampling: SamplingParams,
    counts: Option<TokenCounts>,
    constraint: Option<Constraint>,
    logprobs: Option<u8>,
    prompt_logprobs: Option<u8>,
    num_generated: Arc<AtomicU32>,
    ended: oneshot::Sender<Ended>,
    started: bool,
    /// Events that are not sent yet.
    outbox: Vec<JobEvent>,
}

/// What a step computed for a part of a plan.
pub(super) enum PartOutput<'a> {
    /// The logits of the positions in `part.logits`.
    Logits(&'a mut [f32]),
    /// The best token after each of these positions; `None` where a logit is not finite.
    Best(&'a [Option<TokenId>]),
}

/// The same for one position.
enum Row<'a> {
    Logits(&'a mut [f32]),
    Best(Option<TokenId>),
}

/// Why a generation leaves the batch before its answer is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Break {
    Cancelled,
    Failed(JobFailure),
}

impl RunningAnswer {
    pub(super) fn new(new: NewRequest) -> Self {
        let job = new.request.job;
        Self {
            sink: new.request.sink,
            counts: TokenCounts::for_job(&job.sampling, &job.prompt, &job.resume),
            sampling: job.sampling,
            constraint: new.request.constraint,
            logprobs: job.logprobs,
            prompt_logprobs: job.prompt_logprobs,
            num_generated: new.num_generated,
            ended: new.ended,
            started: false,
            outbox: Vec::new(),
        }
    }

    /// Whether nobody reads the answer any more.
    pub(super) fn is_unwanted(&self) -> bool {
        self.sink.is_closed()
    }

    /// Takes in what a step computed for this generation. What there is to say is kept for [`deliver`](Self::deliver).
    ///
    /// # Errors
    /// The [`Break`] that ends the generation, after what it says until then.
    pub(super) fn take(
        &mut self,
        sequence: &mut Sequence,
        part: &Part,
        output: PartOutput<'_>,
        sampler: &mut Sampler,
    ) -> Result<Advance, Break> {
        self.start();
        sequence.num_computed = part.positions.end;
        let positions = part.logits.clone();
        match output {
            PartOutput::Best(best) => {
                let mut rows = positions.zip(best.iter().map(|best| Row::Best(*best)));
                self.extend(sequence, &mut rows, sampler)
            }
            PartOutput::Logits(rows) => {
                let vocab_size = rows.len() / positions.len().max(1);
                let mut rows = positions.zip(rows.chunks_exact_mut(vocab_size.max(1)));
                if sequence.num_scored < sequence.num_prompt {
                    self.score(sequence, &mut rows, sampler)?;
                }
                self.extend(sequence, &mut rows.map(|(position, row)| (position, Row::Logits(row))), sampler)
            }
        }
    }

    /// Sends the events of the last step.
    ///
    /// # Errors
    /// [`Break::Cancelled`] if nobody reads.
    pub(super) fn deliver(&mut self) -> Result<(), Break> {
        self.outbox.drain(..).try_for_each(|event| self.sink.send(event)).map_err(|_| Break::Cancelled)
    }

    /// The step is over: what all answers said goes on its way together.
    pub(super) fn flush(&self) {
        self.sink.flush();
    }

    /// Reports the logprobs of a prompt that has been scored without a step: one token, which has none.
    pub(super) fn score_first(&mut self, sequence: &mut Sequence) {
        self.start();
        sequence.num_scored = 1;
        self.outbox.push(JobEvent::PromptLogprobs(vec![None]));
    }

    fn start(&mut self) {
        if !std::mem::replace(&mut self.started, true) {
            self.outbox.push(JobEvent::Started);
        }
    }

    /// Scores prompt tokens: the row at a position says how likely the next token was. Leaves the rows that score
    /// nothing.
    fn score<'a>(
        &mut self,
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
            let score = sampler.score(row, token, num_top).map_err(|error| bad_row(error, position))?;
            scores.push(Some(score));
            sequence.num_scored = position + 2;
        }
        if !scores.is_empty() {
            self.outbox.push(JobEvent::PromptLogprobs(scores));
        }
        Ok(())
    }

    /// Chooses the token that follows each row, and goes on to the next row while that is the row of the chosen token:
    /// beyond the first, rows are the draft. Each choice is made as if its row were the only one.
    fn extend<'a>(
        &mut self,
        sequence: &mut Sequence,
        rows: &mut impl Iterator<Item = (usize, Row<'a>)>,
        sampler: &mut Sampler,
    ) -> Result<Advance, Break> {
        let (offset, num_drafted) = (count(sequence.num_generated()), sequence.draft.tokens().len());
        let mut tokens = Vec::new();
        let mut outcome = Ok(());
        for (position, row) in rows {
            let drafted = sequence.draft.tokens().get(tokens.len()).copied();
            outcome = self.choose(sequence, position, row, sampler).and_then(|token| {
                let id = token.id;
                tokens.push(token);
                self.push(sequence, id)
            });
            let chosen = sequence.tokens.last().copied();
            if outcome.is_err() || drafted != chosen || sequence.finish_reason().is_some() {
                break;
            }
        }
        let (num_generated, num_accepted) = (tokens.len(), tokens.len().saturating_sub(1));
        sequence.draft.learn(num_accepted);
        if num_generated > 0 {
            // The last token has no K and V yet; what rejected rows of the draft left behind it is overwritten.
            sequence.num_computed = sequence.tokens.len() - 1;
            self.outbox.push(JobEvent::Tokens { offset, tokens });
        }
        outcome.map(|()| Advance { num_generated, num_drafted, num_accepted })
    }

    /// Chooses the token that follows `position`.
    fn choose(
        &mut self,
        sequence: &Sequence,
        position: usize,
        row: Row<'_>,
        sampler: &mut Sampler,
    ) -> Result<TokenOut, Break> {
        let row = match row {
            Row::Logits(row) => row,
            Row::Best(best) => {
                let id = best.ok_or_else(|| bad_row(BadRow::NotFinite, position))?;
                return Ok(TokenOut { id, logprobs: None });
            }
        };
        let allowed = self.constraint.as_mut().map(Constraint::allowed).transpose();
        let context = ChoiceContext {
            params: &self.sampling,
            counts: self.counts.as_ref(),
            allowed: allowed.map_err(|error| off_limits(&error, sequence))?,
            position: count(position + 1),
            num_top: self.logprobs,
        };
        sampler.choose(row, context).map_err(|error| bad_row(error, position))
    }

    fn push(&mut self, sequence: &mut Sequence, id: TokenId) -> Result<(), Break> {
        sequence.tokens.push(id);
        if let Some(counts) = &mut self.counts {
            counts.push(id);
        }
        self.num_generated.store(count(sequence.num_generated()), Ordering::Relaxed);
        self.constrain(sequence, id)
    }

    /// Moves the constraint past a token of the answer. An end token ends the answer, constraint or not.
    fn constrain(&mut self, sequence: &mut Sequence, id: TokenId) -> Result<(), Break> {
        let Some(constraint) = &mut self.constraint else { return Ok(()) };
        if !sequence.eos_tokens.contains(&id) {
            constraint.accept(id).map_err(|error| off_limits(&error, sequence))?;
            sequence.is_complete = constraint.is_complete();
        }
        Ok(())
    }

    /// Whether the constraint is met, and nothing may follow what there is already.
    pub(super) fn is_complete(&self) -> bool {
        self.constraint.as_ref().is_some_and(Constraint::is_complete)
    }

    /// The answer is complete, or nobody wants it.
    pub(super) fn finish(self, sequence: &Sequence, reason: FinishReason) {
        let usage = self.usage(sequence);
        // If the reader is gone it has no use for the end either.
        let _ = self.sink.send(JobEvent::Finished { reason, usage });
        self.end(usage, Ok(reason));
    }

    pub(super) fn fail(self, sequence: &Sequence, failure: JobFailure) {
        let usage = self.usage(sequence);
        self.end(usage, Err(failure));
    }

    fn usage(&self, sequence: &Sequence) -> Usage {
        Usage {
            prompt_tokens: count(sequence.num_prompt),
            cached_tokens: count(sequence.num_cached),
            completion_tokens: count(sequence.num_generated()),
            prefill_began: self.started || sequence.num_generated() > 0,
        }
    }

    fn end(self, usage: Usage, outcome: Result<FinishReason, JobFailure>) {
        // The receiver may be gone: a request handle that was dropped does not ask how it ended.
        let _ = self.ended.send(Ended { outcome, usage, sink: Some(self.sink) });
    }
}

/// A constraint that cannot be followed any further ends its own answer.
fn off_limits(error: &ConstraintError, sequence: &Sequence) -> Break {
    Break::Failed(error.failure(count(sequence.num_generated())))
}

fn bad_row(error: BadRow, position: usize) -> Break {
    Break::Failed(match error {
        BadRow::NotFinite => JobFailure::NotFinite { position: count(position) },
        BadRow::NothingAllowed => JobFailure::Internal(error.to_string()),
    })
}
