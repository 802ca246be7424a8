//! A hook that can be called.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use souk_protocol::Digest;

use crate::call::{Call, Describe, Prepared, Start, call};
use crate::context::CallContext;
use crate::error::{HookError, HookErrorKind};
use crate::executor::Executor;
use crate::figures;
use crate::intake::Export;
use crate::measured::{Measured, Meter};
use crate::stream::HookStream;
use crate::words::{Answer, AnswerOutcome, Description, Opening, PromptOutcome, Request};

/// A hook in memory. Each call and each stream has an instance of its own, which sees nothing of others.
pub struct Hook {
    executor: Arc<Executor>,
    prepared: Arc<Prepared>,
    exports: BTreeSet<Export>,
}

impl Hook {
    pub(crate) fn new(executor: Arc<Executor>, prepared: Prepared) -> Self {
        Self { executor, exports: prepared.bindings.exports(), prepared: Arc::new(prepared) }
    }

    /// Of its component's bytes.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.prepared.digest
    }

    /// What it does.
    #[must_use]
    pub fn exports(&self) -> &BTreeSet<Export> {
        &self.exports
    }

    /// Whether it does that.
    #[must_use]
    pub fn has(&self, export: Export) -> bool {
        self.exports.contains(&export)
    }

    /// Asks it before the model.
    ///
    /// # Errors
    /// [`HookError`]
    pub async fn prompt(
        &self,
        context: &CallContext,
        request: Request,
    ) -> Result<(PromptOutcome, Measured), HookError> {
        self.call("prompt", context, request).await
    }

    /// Asks it after the model, of a whole answer.
    ///
    /// # Errors
    /// [`HookError`]
    pub async fn answer(&self, context: &CallContext, answer: Answer) -> Result<(AnswerOutcome, Measured), HookError> {
        self.call("answer", context, answer).await
    }

    /// Opens a stream of an answer in it.
    ///
    /// # Errors
    /// [`HookError`]
    pub async fn open_stream(
        &self,
        context: &CallContext,
        opening: Opening,
    ) -> Result<(HookStream, Measured), HookError> {
        let (executor, prepared) = (Arc::clone(&self.executor), Arc::clone(&self.prepared));
        let opened = HookStream::open(executor, prepared, context.clone(), opening).await;
        figures::count_call("open", opened.as_ref().map(|(_, measured)| measured));
        opened
    }

    /// Asks it what it is; `None` where it does not say.
    ///
    /// # Errors
    /// [`HookError`]
    pub async fn describe(&self, context: &CallContext) -> Result<(Option<Description>, Measured), HookError> {
        if !self.has(Export::Describe) {
            return self.start(context).await.map(|measured| (None, measured));
        }
        let (description, measured) = self.call("describe", context, Describe).await?;
        Ok((Some(description), measured))
    }

    /// Starts an instance and looks whether what it exports has the types of the interface: a hook that passes can be called.
    ///
    /// # Errors
    /// [`HookError`] of kind [`CannotStart`](HookErrorKind::CannotStart) where it has not.
    pub async fn start(&self, context: &CallContext) -> Result<Measured, HookError> {
        match self.call("start", context, Start).await {
            Ok(((), measured)) => Ok(measured),
            Err(error) if error.kind == HookErrorKind::Invalid => {
                Err(HookError { kind: HookErrorKind::CannotStart, ..error })
            }
            Err(error) => Err(error),
        }
    }

    async fn call<C: Call>(
        &self,
        what: &'static str,
        context: &CallContext,
        given: C,
    ) -> Result<(C::Outcome, Measured), HookError> {
        if given.size_bytes() > context.limits.max_input_bytes {
            return Err(HookError::before(HookErrorKind::InputTooLarge));
        }
        let meter = Arc::new(Meter::default());
        let work = call(Arc::clone(&self.prepared), context.clone(), Arc::clone(&meter), given);
        let came = self.executor.run(context, meter, work).await.and_then(|came| came);
        figures::count_call(what, came.as_ref().map(|(_, measured)| measured));
        came
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("digest", self.digest()).field("exports", &self.exports).finish_non_exhaustive()
    }
}
