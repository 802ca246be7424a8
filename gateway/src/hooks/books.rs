//! The books on one step in one request: what it did, how it failed, and what either means for the request.

use std::sync::Arc;
use std::time::Duration;

use souk_plugins::words::Refusal;
use souk_protocol::hooks::{HookLine, HookTold, OnFailure, Part, Step};
use souk_protocol::{Outcome, RequestId, TenantId, wall_clock};

use super::failure::{HookEnd, HookFailure, Want};
use super::lines::Lines;
use super::tally::Tally;
use crate::error::ApiError;
use crate::metrics;

/// Why a hook that was taken down fails.
pub(crate) const TAKEN_DOWN: &str = "it was taken down";

/// When to come back where there was no room for a hook.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whose step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Of who calls: of its tenant, its key, or a route.
    Caller,
    /// Of the publisher of the adapter that is called.
    Publisher,
}

impl Whose {
    /// How jobs count that a hook of theirs ends.
    pub(crate) const fn outcome(self) -> Outcome {
        match self {
            Self::Caller => Outcome::OwnHook,
            Self::Publisher => Outcome::PublisherHook,
        }
    }
}

/// The books on one step in one request.
pub(crate) struct Books {
    pub(crate) step: Step,
    pub(crate) whose: Whose,
    /// The request's; all its steps share it.
    pub(crate) tally: Arc<Tally>,
    /// Where what it says goes; `None` where nobody keeps it.
    pub(crate) lines: Option<Arc<Lines>>,
    /// Whether its owner may read what it says in this request.
    pub(crate) may_say: bool,
    pub(crate) request: RequestId,
    /// Whose request it is.
    pub(crate) caller: TenantId,
}

impl Books {
    /// The hook as callers are told of it: `owner/name@1.0.0`.
    pub(crate) fn name(&self) -> String {
        format!("{}@{}", self.step.hook, self.step.version)
    }

    /// It was called, and used so much fuel and processor time.
    pub(crate) fn called(&self, num_calls: u32, fuel: u64, processor: Duration) {
        let processor_us = u64::try_from(processor.as_micros()).unwrap_or(u64::MAX);
        self.tally.count(&self.step.id, |one| {
            one.calls += num_calls;
            one.fuel = one.fuel.saturating_add(fuel);
            one.processor_us = one.processor_us.saturating_add(processor_us);
        });
    }

    /// It did what it should.
    pub(crate) fn succeeded(&self, part: Part) {
        metrics::hook_called(part, "ok");
    }

    /// It refuses the request, or an answer.
    pub(crate) fn refused(&self, part: Part, refusal: Refusal) -> HookEnd {
        metrics::hook_called(part, "refused");
        self.tally.count(&self.step.id, |one| one.refusals += 1);
        let Refusal { status, message } = refusal;
        let error = ApiError::HookRefused { hook: self.name(), status, message };
        HookEnd { error: Box::new(error), outcome: self.whose.outcome() }
    }

    /// It failed: either that ends the request, or it is passed over.
    ///
    /// # Errors
    /// [`HookEnd`] where it is not passed over.
    pub(crate) fn failed(&self, part: Part, failure: HookFailure) -> Result<(), HookEnd> {
        let HookFailure { code, reason, detail, want } = failure;
        metrics::hook_called(part, code);
        let is_skipped = self.step.on_failure == OnFailure::Skip;
        self.tally.count(&self.step.id, |one| {
            one.failures += 1;
            one.skipped += u32::from(is_skipped);
        });
        let name = self.name();
        tracing::warn!(hook = %name, part = part.as_str(), code, %reason, is_skipped, request.id = %self.request, "a hook failed");
        let detail = detail.filter(|_| self.may_say);
        self.say(HookTold::Failed { part, code: code.to_owned(), detail });
        if is_skipped {
            metrics::hook_skipped(part);
            return Ok(());
        }
        let what = || format!("the hook `{name}`: {reason}");
        let error = match want {
            Some(Want::Share) => ApiError::ShareTaken { what: what(), retry_after: RETRY_AFTER },
            Some(Want::Room) => ApiError::Overloaded { what: what(), retry_after: RETRY_AFTER },
            None => ApiError::HookFailed { hook: name, reason },
        };
        Err(HookEnd { error: Box::new(error), outcome: self.whose.outcome() })
    }

    /// It was taken down while the request ran.
    pub(crate) fn taken_down(&self) -> ApiError {
        ApiError::HookFailed { hook: self.name(), reason: TAKEN_DOWN.to_owned() }
    }

    /// It wrote a line to its log.
    pub(crate) fn logged(&self, level: &'static str, text: String) {
        if self.may_say {
            self.say(HookTold::Log { level: level.to_owned(), text });
        }
    }

    fn say(&self, what: HookTold) {
        if let Some(lines) = &self.lines {
            let request = self.may_say.then(|| self.request.clone());
            let (version, tenant) = (self.step.id.clone(), self.caller.clone());
            lines.push(HookLine { version, tenant, at_ms: wall_clock::unix_ms(), request, what });
        }
    }
}
