//! From the events of jobs to answers: text, finish, usage; whole or as a stream.

mod collect;
pub(crate) mod logprobs;
pub(crate) mod sse;
mod text;
pub mod usage;

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt as _};
use souk_protocol::{FinishReason, JobEvent, JobFailure, TokenId, TokenLogprobs, Usage};
use tokio::time::Instant;

pub(crate) use self::collect::{WholeAnswer, collect};
pub(crate) use self::text::{AnswerText, Scored};
use crate::error::ApiError;
use crate::metrics;
use crate::request::RequestedConstraint;
use crate::running::RunningJob;
use crate::served::ServedBase;

/// What happens to one answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    /// The prompt's logprobs, all of them; comes first, and only if they were asked for.
    Prompt(Vec<Option<TokenLogprobs>>),
    /// More of the answer. Text and tokens need not match one to one: both are held back while they could be part of a
    /// stop string.
    Delta {
        /// Whole characters.
        text: String,
        /// The tokens that became certain, with logprobs if they were asked for.
        tokens: Vec<Scored>,
    },
    /// The end; nothing follows.
    End {
        /// Why.
        finish: Finish,
        /// Exact counts.
        usage: Usage,
    },
}

/// Why an answer ended, as the API says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The model ended it, or a stop string did.
    Stop,
    /// `max_tokens` or the context's end.
    Length,
}

impl Finish {
    /// The word on the wire.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// One answer under way.
pub(crate) struct Answer {
    job: RunningJob,
    text: AnswerText,
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

/// What to make of a job's tokens.
pub(crate) struct AnswerShape<'a> {
    pub(crate) base: &'a Arc<ServedBase>,
    pub(crate) stops: &'a [String],
    /// Tokens that end the answer and are not part of it.
    pub(crate) eos_tokens: &'a [TokenId],
    /// Whether the ending token is listed among the scored tokens.
    pub(crate) score_ending: bool,
    pub(crate) num_prompt_tokens: usize,
    pub(crate) prompt_logprobs: bool,
}

impl Answer {
    pub(crate) fn new(job: RunningJob, shape: &AnswerShape<'_>) -> Self {
        Self {
            job,
            text: AnswerText::new(shape),
            num_prompt_tokens: shape.num_prompt_tokens,
            prompt: shape.prompt_logprobs.then(Vec::new),
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
                    let mut stopped = false;
                    for token in tokens {
                        self.num_tokens += 1;
                        stopped = self.text.push(token);
                        if stopped {
                            break;
                        }
                    }
                    if stopped {
                        return Some(Ok(self.stop().await));
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

    fn on_prompt(&mut self, logprobs: Vec<Option<TokenLogprobs>>) -> Option<Piece> {
        let prompt = self.prompt.as_mut()?;
        prompt.extend(logprobs);
        if prompt.len() < self.num_prompt_tokens {
            return None;
        }
        self.prompt.take().map(Piece::Prompt)
    }

    /// A stop string is complete: the job is no longer wanted.
    async fn stop(&mut self) -> Piece {
        self.over = true;
        let cached_tokens = self.job.end_early().await;
        let usage =
            Usage { prompt_tokens: self.num_prompt_tokens as u32, cached_tokens, completion_tokens: self.num_tokens };
        let end = Piece::End { finish: Finish::Stop, usage };
        self.before_end(end)
    }

    fn finish(&mut self, reason: FinishReason, usage: Usage) -> Result<Piece, JobFailure> {
        self.over = true;
        let finish = match reason {
            FinishReason::Stop => Finish::Stop,
            FinishReason::Length => Finish::Length,
            // Cancelled, and not by us.
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

/// The answers of one request as they come, each piece with the answer's index.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = (usize, Result<Piece, ApiError>)> + Send>>;

/// Interleaves answers; failures name `constraint`, the field that asked for one, where it is at fault. Dropping the result cancels those that are not over.
pub(crate) fn interleave(answers: Vec<Answer>, constraint: Option<&RequestedConstraint>) -> Answers {
    let field = constraint.map(|constraint| constraint.field.clone());
    let pieces = answers.into_iter().enumerate().map(|(index, answer)| {
        Box::pin(stream::unfold(answer, move |mut answer| async move {
            let piece = answer.next().await?;
            Some(((index, piece), answer))
        }))
    });
    let named = move |(index, piece): (usize, Result<Piece, JobFailure>)| {
        (index, piece.map_err(|failure| ApiError::of_job(failure, field.as_deref())))
    };
    stream::select_all(pieces).map(named).boxed()
}
