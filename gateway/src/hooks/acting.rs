//! One hook that acts on one request.

use std::sync::Arc;

use souk_plugins::words::{
    Answer, AnswerOutcome, Ending, Level, Opening, Piece, PromptOutcome, Refusal, Request, Step,
};
use souk_plugins::{CallContext, CountTokens, Hook, HookError, HookErrorKind, HookStream, Measured};
use souk_protocol::RequestId;
use souk_protocol::hooks::{HookLimits, Part};

use super::books::Books;
use super::failure::{HookEnd, HookFailure, Want};
use super::tally::Tally;
use crate::call::gates::Holder;
use crate::reply::hooked::layer::{After, Manner};
use crate::served::ServedBase;

/// What all hooks of one request have in common.
pub(crate) struct Occasion {
    /// Who asks, and has a share of what there is to run hooks.
    pub(crate) caller: Holder,
    /// What was said of hooks in that tenant's requests: how many run at once goes by it.
    pub(crate) caller_limits: HookLimits,
    pub(crate) request: RequestId,
    /// What their randomness is drawn from.
    pub(crate) seed: u64,
    /// Where their clock stands.
    pub(crate) clock_s: u64,
    /// Counts tokens.
    pub(crate) tokens: Arc<BaseTokens>,
    pub(crate) tally: Arc<Tally>,
}

/// Counts the tokens of a base model for hooks.
pub(crate) struct BaseTokens(pub(crate) Arc<ServedBase>);

impl CountTokens for BaseTokens {
    fn count(&self, text: &str) -> u32 {
        // Text that cannot be encoded cannot be sent either.
        self.0.tokenizer.encode(text).map_or(0, |tokens| u32::try_from(tokens.len()).unwrap_or(u32::MAX))
    }
}

/// A hook that can be called for one request.
pub(crate) struct Acting {
    pub(crate) books: Books,
    hook: Arc<Hook>,
    context: CallContext,
}

impl Acting {
    pub(crate) fn new(books: Books, (hook, context): (Arc<Hook>, CallContext)) -> Self {
        Self { books, hook, context }
    }

    /// What it makes of a request.
    pub(crate) async fn prompt(&self, request: Request) -> Result<PromptOutcome, HookFailure> {
        self.noted(1, self.hook.prompt(&self.context, request).await)
    }

    async fn answer(&self, answer: Answer) -> Result<AnswerOutcome, HookFailure> {
        self.noted(1, self.hook.answer(&self.context, answer).await)
    }

    async fn open(&self, opening: Opening) -> Result<HookStream, HookFailure> {
        self.noted(1, self.hook.open_stream(&self.context, opening).await)
    }

    /// Notes what a call took, whatever came of it.
    fn noted<T>(&self, num_calls: u32, called: Result<(T, Measured), HookError>) -> Result<T, HookFailure> {
        match called {
            Ok((outcome, measured)) => {
                self.note(num_calls, measured);
                Ok(outcome)
            }
            Err(HookError { kind, detail, measured }) => {
                self.note(num_calls, *measured);
                let want = match kind {
                    HookErrorKind::ShareTaken => Some(Want::Share),
                    kind => kind.is_of_host().then_some(Want::Room),
                };
                Err(HookFailure {
                    detail: detail.map(String::from),
                    want,
                    ..HookFailure::new(kind.code(), kind.message())
                })
            }
        }
    }

    fn note(&self, num_calls: u32, measured: Measured) {
        self.books.called(num_calls, measured.fuel, measured.processor);
        for line in measured.lines {
            let level = match line.level {
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            };
            self.books.logged(level, line.message);
        }
    }
}

/// A hook around one answer.
pub(crate) struct AfterHook {
    acting: Arc<Acting>,
    part: Part,
    /// How its stream begins, until it has.
    opening: Option<Opening>,
    stream: Option<HookStream>,
}

impl AfterHook {
    pub(crate) const fn new(acting: Arc<Acting>, manner: Manner, index: u32, carry: Vec<u8>) -> Self {
        let part = match manner {
            Manner::Whole => Part::Answer,
            Manner::Pieces | Manner::OnePiece => Part::Stream,
        };
        Self { acting, part, opening: Some(Opening { index, carry }), stream: None }
    }

    /// Its stream, which begins with the first piece.
    async fn stream(&mut self) -> Result<&mut HookStream, HookFailure> {
        if let Some(opening) = self.opening.take() {
            self.stream = Some(self.acting.open(opening).await?);
        }
        self.stream
            .as_mut()
            .ok_or_else(|| HookFailure::new(HookErrorKind::Ended.code(), HookErrorKind::Ended.message()))
    }

    /// What a step was, or that the hook failed and is passed over: then its stream is over.
    fn outcome<T>(&mut self, called: Result<T, HookFailure>) -> Result<Option<T>, HookEnd> {
        match called {
            Ok(outcome) => Ok(Some(outcome)),
            Err(failure) => {
                self.stream = None;
                self.acting.books.failed(self.part, failure).map(|()| None)
            }
        }
    }

    async fn try_push(&mut self, piece: Piece) -> Result<Step, HookFailure> {
        let called = self.stream().await?.push(piece).await;
        self.acting.noted(0, called)
    }

    async fn try_finish(&mut self, ending: Ending) -> Result<Step, HookFailure> {
        let called = self.stream().await?.finish(ending).await;
        self.stream = None;
        self.acting.noted(0, called)
    }
}

impl After for AfterHook {
    async fn answer(&mut self, answer: Answer) -> Result<Option<AnswerOutcome>, HookEnd> {
        let called = self.acting.answer(answer).await;
        let outcome = self.outcome(called)?;
        if matches!(outcome, Some(AnswerOutcome::Unchanged | AnswerOutcome::Replaced(_))) {
            self.acting.books.succeeded(self.part);
        }
        Ok(outcome)
    }

    async fn push(&mut self, piece: Piece) -> Result<Option<Step>, HookEnd> {
        let called = self.try_push(piece).await;
        let step = self.outcome(called)?;
        if matches!(step, Some(Step::End(_))) {
            self.stream = None;
            self.acting.books.succeeded(self.part);
        }
        Ok(step)
    }

    async fn finish(&mut self, ending: Ending) -> Result<Option<Step>, HookEnd> {
        let called = self.try_finish(ending).await;
        let step = self.outcome(called)?;
        if matches!(step, Some(Step::Send(_) | Step::End(_))) {
            self.acting.books.succeeded(self.part);
        }
        Ok(step)
    }

    fn refused(&mut self, refusal: Refusal) -> HookEnd {
        self.stream = None;
        self.acting.books.refused(self.part, refusal)
    }
}
