//! The hooks that a request has entered, and what they are around its answers.

use std::collections::BTreeSet;
use std::sync::Arc;

use souk_protocol::hooks::Part;
use souk_protocol::{Digest, JobFailure};

use crate::call::open_jobs::OpenJobs;
use crate::error::ApiError;
use crate::hooks::acting::{Acting, AfterHook};
use crate::hooks::books::Books;
use crate::hooks::tally::Tally;
use crate::reply::hooked::layer::{Layer, Manner};
use crate::reply::hooked::{HookedReply, Source};
use crate::reply::kept::Kept;
use crate::served::ServedBase;

/// A hook that a request has entered.
pub(crate) struct Entered {
    pub(crate) acting: Arc<Acting>,
    /// What its `prompt` left for its own later parts, by prompt; empty if nothing.
    pub(crate) carries: Vec<Vec<u8>>,
}

/// All that is around a request's answers.
pub(crate) struct Around {
    /// Outermost first.
    entered: Vec<Entered>,
    tally: Arc<Tally>,
    /// Whether the caller wants logprobs, which hooks see then.
    logprobs: bool,
    is_streamed: bool,
    /// The hook that wrote the text last that is asked.
    rewritten_by: Option<String>,
    /// The answers to each prompt, where a hook gave them.
    answered: Option<Vec<String>>,
}

/// How a hook with these parts takes answers, if it does. Where answers are streamed one without `stream` takes them whole, and they
/// are sent in one piece; where they are whole one without `answer` takes each as the only piece of a stream.
pub(crate) fn manner(parts: &BTreeSet<Part>, is_streamed: bool) -> Option<Manner> {
    match (parts.contains(&Part::Answer), parts.contains(&Part::Stream)) {
        (false, false) => None,
        (_, true) if is_streamed => Some(Manner::Pieces),
        (true, _) => Some(Manner::Whole),
        (false, true) => Some(Manner::OnePiece),
    }
}

impl Around {
    pub(crate) const fn new(tally: Arc<Tally>, logprobs: bool, is_streamed: bool) -> Self {
        Self { entered: Vec::new(), tally, logprobs, is_streamed, rewritten_by: None, answered: None }
    }

    /// A hook is around all that comes after it.
    pub(crate) fn enter(&mut self, entered: Entered) {
        self.entered.push(entered);
    }

    /// A hook has answered each prompt.
    pub(crate) fn answer(&mut self, texts: Vec<String>) {
        self.answered = Some(texts);
    }

    /// Whether one has.
    pub(crate) const fn is_answered(&self) -> bool {
        self.answered.is_some()
    }

    /// The answers that a hook gave, by prompt.
    pub(crate) const fn take_answers(&mut self) -> Option<Vec<String>> {
        self.answered.take()
    }

    /// What is asked is what a hook wrote.
    pub(crate) fn rewritten_by(&mut self, hook: String) {
        self.rewritten_by = Some(hook);
    }

    /// The hook that wrote last what is asked.
    pub(crate) fn rewriter(&self) -> Option<&str> {
        self.rewritten_by.as_deref()
    }

    /// What hooks did in the request.
    pub(crate) const fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The components of the hooks that act on its answers, which end with a take-down of one.
    pub(crate) fn components(&self) -> Vec<Digest> {
        self.on_answers().map(|books| books.step.digest).collect()
    }

    /// Whether any hook acts on its answers.
    pub(crate) fn is_around_answers(&self) -> bool {
        self.on_answers().next().is_some()
    }

    /// The hooks that act on its answers, outermost first.
    fn on_answers(&self) -> impl Iterator<Item = &Books> {
        let books = self.entered.iter().map(|entered| &entered.acting.books);
        books.filter(|books| manner(&books.step.parts, self.is_streamed).is_some())
    }

    /// What a refusal of a request is that the model cannot be asked. Where a hook wrote it, it is the hook's failure; only
    /// that it is too long is for the caller to mend, whose text is part of it.
    pub(crate) fn blamed(&self, error: ApiError) -> ApiError {
        let is_of_request = matches!(
            error,
            ApiError::InvalidValue { .. } | ApiError::Unsupported { .. } | ApiError::VersionTemplate { .. }
        );
        match &self.rewritten_by {
            Some(hook) if is_of_request => {
                let reason = error.to_string().trim_end_matches('.').to_owned();
                ApiError::HookFailed { hook: hook.clone(), reason }
            }
            _ => error,
        }
    }

    /// What a job's failure is, where it is that a hook was taken down.
    ///
    /// # Errors
    /// The failure, where it is another.
    pub(crate) fn of_job(&self, failure: JobFailure, withdrawn: &OpenJobs) -> Result<ApiError, JobFailure> {
        match self.on_answers().find(|books| withdrawn.is_taken_down(&books.step.digest)) {
            Some(books) if matches!(failure, JobFailure::TakenDown) => Ok(books.taken_down()),
            _ => Err(failure),
        }
    }

    /// Puts the hooks around replies; `choices` are those of each prompt.
    pub(crate) fn wrap(
        &self,
        sources: impl Iterator<Item = Source>,
        choices: usize,
        base: &Arc<ServedBase>,
    ) -> Vec<HookedReply<AfterHook>> {
        let kept = (!self.is_streamed).then(Kept::default);
        let wrapped = sources
            .enumerate()
            .map(|(index, source)| HookedReply::new(source, self.layers(index, choices, base), kept.clone()));
        wrapped.collect()
    }

    /// What is around one answer, innermost first.
    fn layers(&self, index: usize, choices: usize, base: &Arc<ServedBase>) -> Vec<Layer<AfterHook>> {
        let base = self.logprobs.then(|| Arc::clone(base));
        let index_of_all = u32::try_from(index).unwrap_or(u32::MAX);
        let layer = |entered: &Entered| {
            let manner = manner(&entered.acting.books.step.parts, self.is_streamed)?;
            let carry = entered.carries.get(index / choices).cloned().unwrap_or_default();
            let hook = AfterHook::new(Arc::clone(&entered.acting), manner, index_of_all, carry.clone());
            Some(Layer::new(hook, manner, index_of_all, carry, base.clone()))
        };
        self.entered.iter().rev().filter_map(layer).collect()
    }
}
