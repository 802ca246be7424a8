//! A reply with hooks around it.
//!
//! The layers are those of an onion: what the model says goes through the adapter's first, then through the caller's, innermost
//! first. What a layer hands on is what the next one gets. When one ends the answer, those around it get what it sent last
//! and the end, and the model works on it no longer; those within it hear nothing more. When one refuses or fails, the request has failed.
//!
//! What was computed and delivered is counted as without hooks: tokens are delivered when their event is here, whatever becomes
//! of their text. Logprobs are those of the model's tokens, so they are there for text that is as the model wrote it; from the
//! first change that a hook makes to an answer they are left out.

mod held;
pub(crate) mod layer;

use std::collections::VecDeque;

use souk_plugins::words;
use souk_protocol::{JobFailure, Outcome, Usage};

use self::layer::{After, Layer, Out, Part};
use super::interleave::Pieces;
use super::kept::Kept;
use super::one::Reply;
use super::piece::{Finish, Piece};
use crate::call::unasked::GivenJob;
use crate::error::ApiError;
use crate::hooks::failure::HookEnd;

/// Where a reply's text comes from.
pub(crate) enum Source {
    /// A job.
    Job(Box<Reply>),
    /// A hook that answered in the model's place.
    Given(Given),
}

/// What a hook said in the model's place.
pub(crate) struct Given {
    /// `None` once it was taken.
    text: Option<String>,
    job: GivenJob,
}

/// A reply with hooks around it. Dropping it ends its job and the hooks' streams.
pub(crate) struct HookedReply<H> {
    /// `None` once it is over.
    source: Option<Source>,
    /// Innermost first.
    layers: Vec<Layer<H>>,
    ready: VecDeque<Piece>,
    /// Where the jobs of a request that is answered whole wait for its last answer.
    kept: Option<Kept>,
}

/// Why a reply with hooks ended early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Its job failed.
    Job(JobFailure),
    /// A hook did, or refused.
    Hook(Box<ApiError>),
}

impl Failure {
    /// The error of the API; `named` makes one of a job's failure.
    pub(crate) fn named(self, named: impl FnOnce(JobFailure) -> ApiError) -> ApiError {
        match self {
            Self::Job(failure) => named(failure),
            Self::Hook(error) => *error,
        }
    }
}

impl<H: After + 'static> Pieces for HookedReply<H> {
    type Failure = Failure;

    async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        Self::next(self).await
    }
}

impl<H: After> HookedReply<H> {
    pub(crate) fn new(source: Source, layers: Vec<Layer<H>>, kept: Option<Kept>) -> Self {
        Self { source: Some(source), layers, ready: VecDeque::new(), kept }
    }

    /// The next piece; `None` after [`Piece::End`] or a failure.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            let (part, end) = match self.source.as_mut()?.next().await? {
                Ok(Piece::Prompt(scores)) => return Some(Ok(Piece::Prompt(scores))),
                Ok(Piece::Delta { text, tokens }) => (Part { text, tokens }, None),
                Ok(Piece::End { finish, usage }) => (Part::default(), Some((finish, usage))),
                Err(failure) => {
                    self.source = None;
                    return Some(Err(Failure::Job(failure)));
                }
            };
            if let Err(HookEnd { error, outcome }) = self.pass(part, end).await {
                self.fail(outcome);
                return Some(Err(Failure::Hook(error)));
            }
        }
    }

    /// Hands a part, and the end if it has come, from layer to layer.
    async fn pass(&mut self, mut part: Part, end: Option<(Finish, Usage)>) -> Result<(), HookEnd> {
        let mut ending = end;
        for layer in &mut self.layers {
            let mut out = match part.is_empty() {
                true => Out::default(),
                false => layer.push(part).await?,
            };
            if let Some((finish, usage)) = ending
                && !out.is_last
            {
                let more = layer.finish(words_of(finish, usage)).await?;
                out.part.text.push_str(&more.part.text);
                out.part.tokens.extend(more.part.tokens);
                out.is_last = more.is_last;
            }
            if out.is_last {
                let usage = match ending {
                    Some((_, usage)) => usage,
                    None => self.source.as_ref().map(Source::so_far).unwrap_or_default(),
                };
                ending = Some((Finish::ContentFilter, usage));
            }
            part = out.part;
        }
        if !part.is_empty() {
            self.ready.push_back(Piece::Delta { text: part.text, tokens: part.tokens });
        }
        if let Some((finish, usage)) = ending {
            let usage = if end.is_none() { self.cut().await.unwrap_or(usage) } else { usage };
            self.ready.push_back(Piece::End { finish, usage });
            self.over();
        }
        Ok(())
    }

    /// A hook ended the answer: the model works on it no longer.
    async fn cut(&mut self) -> Option<Usage> {
        match self.source.as_mut()? {
            Source::Job(reply) => Some(reply.cut().await),
            Source::Given(_) => None,
        }
    }

    /// The answer is complete. Of a whole one it is not yet known whether its request is.
    fn over(&mut self) {
        match (self.source.take(), &self.kept) {
            (Some(Source::Job(reply)), Some(kept)) => kept.keep(*reply),
            (Some(Source::Given(given)), _) => given.job.over(),
            _ => {}
        }
    }

    fn fail(&mut self, outcome: Outcome) {
        match self.source.take() {
            Some(Source::Job(mut reply)) => reply.ended_by_hook(outcome),
            Some(Source::Given(given)) => given.job.failed(outcome, self.kept.is_some()),
            None => {}
        }
        if let Some(kept) = &self.kept {
            kept.fail(outcome);
        }
    }
}

impl<H> Drop for HookedReply<H> {
    fn drop(&mut self) {
        // The model may have ended it while its hooks were still at it.
        if let (Some(Source::Job(reply)), Some(outcome)) = (&mut self.source, self.kept.as_ref().and_then(Kept::failed))
        {
            reply.ended_by_hook(outcome);
        }
    }
}

impl From<Reply> for Source {
    fn from(reply: Reply) -> Self {
        Self::Job(Box::new(reply))
    }
}

impl Source {
    /// What a hook said in the model's place.
    pub(crate) const fn given(text: String, job: GivenJob) -> Self {
        Self::Given(Given { text: Some(text), job })
    }

    async fn next(&mut self) -> Option<Result<Piece, JobFailure>> {
        match self {
            Self::Job(reply) => reply.next().await,
            Self::Given(given) => Some(Ok(match given.text.take() {
                Some(text) if !text.is_empty() => Piece::Delta { text, tokens: Vec::new() },
                _ => Piece::End { finish: Finish::Stop, usage: Usage::default() },
            })),
        }
    }

    /// What the answer took until now.
    fn so_far(&self) -> Usage {
        match self {
            Self::Job(reply) => reply.so_far(),
            Self::Given(_) => Usage::default(),
        }
    }
}

fn words_of(finish: Finish, usage: Usage) -> words::Ending {
    let finish_reason = match finish {
        Finish::Stop => words::FinishReason::Stop,
        Finish::Length => words::FinishReason::Length,
        Finish::ContentFilter => words::FinishReason::ContentFilter,
    };
    let Usage { prompt_tokens, completion_tokens, .. } = usage;
    words::Ending { finish_reason, usage: words::Usage { prompt_tokens, completion_tokens } }
}
