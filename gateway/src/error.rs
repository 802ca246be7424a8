//! The error policy: every refusal and failure of the API is an [`ApiError`], which has one HTTP status, one stable
//! code and a sentence for the caller, and answers in OpenAI's envelope.
//!
//! Causes that the caller cannot use (a store that is down, a broken invariant) are logged once where the error is made
//! into a response, and the caller sees a general sentence. `x-should-retry: false` marks what will fail again
//! unchanged; `retry-after` says when to come back.

mod convert;
mod wire;

use std::time::Duration;

use souk_limits::Violation;
use souk_protocol::{JobFailure, RequestId, Scope};

pub(crate) use self::wire::FIRST_REQUEST;
pub use self::wire::{ErrorBody, ErrorDetail, ViolatedPolicy};

/// Any error of the API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A field has a value that it may not have.
    #[error("{message}")]
    InvalidValue {
        /// The field.
        param: String,
        /// What is allowed and what was given.
        message: String,
    },
    /// A field that must be there is not.
    #[error("Missing required parameter: '{0}'.")]
    MissingParameter(&'static str),
    /// A field that this API does not know.
    #[error("Unknown parameter: '{0}'.")]
    UnknownParameter(String),
    /// A field or value that the official API has and this one does not.
    #[error("{message}")]
    Unsupported {
        /// The field.
        param: String,
        /// What is not supported.
        message: String,
    },
    /// The prompt, or prompt and answer together, do not fit.
    #[error("{}", context_message(*.limit, prompt, *.completion))]
    ContextLength {
        /// `messages` or `prompt`.
        param: &'static str,
        /// Tokens of the model's context.
        limit: usize,
        /// Length of the prompt.
        prompt: PromptLength,
        /// `max_tokens` where the prompt alone would fit.
        completion: Option<u64>,
    },
    /// The chat template of a version fails on these messages.
    #[error("The chat template of `{version}` {}: {reason}. The messages may be sent to its base model, or as a prompt.", if *.is_limit { "takes too long or writes too much for these messages" } else { "fails" })]
    VersionTemplate {
        /// `owner/name@version`.
        version: String,
        /// What fails, with the line.
        reason: String,
        /// Whether it is a limit that fails it: shorter messages may pass.
        is_limit: bool,
    },
    /// A hook failed, of the caller's or of the publisher of the adapter.
    #[error("The hook `{hook}` failed: {reason}.")]
    HookFailed {
        /// `owner/name@version`.
        hook: String,
        /// How, in the host's words.
        reason: String,
    },
    /// A hook refused the request or an answer.
    #[error("{message}")]
    HookRefused {
        /// `owner/name@version`.
        hook: String,
        /// The status that it chose, from 400 to 499.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The body is not JSON.
    #[error("We could not parse the JSON body of your request: {}{reason}", within(field.as_deref()))]
    MalformedJson {
        /// The field in which it is not, where that is known.
        field: Option<String>,
        /// What is wrong, and where.
        reason: String,
    },
    /// The body is not said to be JSON.
    #[error("Unsupported content type '{0}'; send application/json.")]
    MediaType(String),
    /// The body is longer than the limit.
    #[error("The request body is larger than the limit of {limit} bytes.")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body did not arrive in time, or not whole.
    #[error("The request body did not arrive within {} seconds.", .0.as_secs())]
    BodyTimeout(Duration),
    /// The body came more slowly than the least rate.
    #[error("The request body came too slowly.")]
    BodyTooSlow,
    /// The connection broke while the body was read.
    #[error("The request body ended early.")]
    BodyCut,
    /// No key was given.
    #[error("You didn't provide an API key. Send it as a header: Authorization: Bearer YOUR_KEY")]
    NoKey,
    /// The key opens nothing.
    #[error("Incorrect API key provided. It may be mistyped, expired or revoked.")]
    InvalidKey,
    /// The key lacks a right.
    #[error("You have insufficient permissions for this operation. Missing scopes: {0}")]
    MissingScope(Scope),
    /// No such model for this caller.
    #[error("The model `{0}` does not exist or you do not have access to it.")]
    ModelNotFound(String),
    /// The key has a list of models, and this is not on it.
    #[error("The API key may not call the model `{0}`: it is not on the key's list of models.")]
    ModelNotAllowed(String),
    /// The adapter is gated, and the caller's tenant has no access.
    #[error("The model `{0}` is gated and you have no access to it: `souk access request` asks its owner.")]
    AccessNeeded(String),
    /// The adapter cannot be served yet.
    #[error("The model `{reference}` is not ready: its state is {state}.")]
    ModelNotReady {
        /// As asked for.
        reference: String,
        /// Its state.
        state: String,
    },
    /// The adapter was taken down.
    #[error("The model `{0}` was taken down.")]
    ModelTakenDown(String),
    /// The adapter's base model is not served here.
    #[error("The model `{0}` needs a base model that is not served here.")]
    BaseNotServed(String),
    /// The caller's own cap is reached.
    #[error("Rate limit reached: you have {queued} requests waiting of at most {limit}. Try again in {} s.", .retry_after.as_secs())]
    RateLimited {
        /// The cap.
        limit: usize,
        /// What it counts now.
        queued: usize,
        /// When to come back.
        retry_after: Duration,
    },
    /// The caller has its share of what others wait for.
    #[error("Your share is taken, {what}. Try again in {} s.", .retry_after.as_secs())]
    ShareTaken {
        /// Of what, with what is held and asked for.
        what: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Everyone together asks too much.
    #[error("The server is overloaded: {what}. Try again in {} s.", .retry_after.as_secs())]
    Overloaded {
        /// What is full.
        what: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// Limits of the caller have no room for what the request may use. Never empty; the broadest level comes first.
    #[error("{}", limit_message(.0))]
    LimitSpent(Vec<Violation>),
    /// What is used of the caller's limits is not known at the moment.
    #[error("What is used of your limits is being gathered. Try again in {} s.", seconds(*.retry_after))]
    LimitsUnknown {
        /// For how much longer.
        retry_after: Duration,
    },
    /// A request with this Idempotency-Key runs.
    #[error("A request with this Idempotency-Key is being answered: {0}. Try again when it has ended.")]
    RepeatRuns(RequestId),
    /// A request with this Idempotency-Key has run, and its answer cannot be given again.
    #[error(
        "A request with this Idempotency-Key was answered and charged: {0}. Its answer was not kept; send another key to ask again."
    )]
    RepeatNotKept(RequestId),
    /// A request with this Idempotency-Key had another body.
    #[error("This Idempotency-Key was used for a request with another body.")]
    RepeatDiffers,
    /// No node serves the base model now.
    #[error("No node serves the base model `{0}` at the moment.")]
    NoNode(String),
    /// This gateway is stopping.
    #[error("The server is shutting down.")]
    Draining,
    /// Registry or queue cannot be reached.
    #[error("A service behind the API cannot be reached at the moment.")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The job ended without an answer.
    #[error("{}", job_message(.0))]
    Job(JobFailure),
    /// The constraint that a field asked for cannot be compiled or followed.
    #[error("'{param}': {failure}.")]
    Constraint {
        /// The field.
        param: String,
        /// What the node says of it.
        failure: JobFailure,
    },
    /// A path or query that is no text, or not of its form.
    #[error("The URL cannot be read: {0}.")]
    UnreadableUrl(String),
    /// No such path.
    #[error("Invalid URL ({method} {path})")]
    UnknownUrl {
        /// The method asked for.
        method: String,
        /// The path asked for.
        path: String,
    },
    /// The path exists, with other methods.
    #[error("Not allowed to {method} on {path}")]
    MethodNotAllowed {
        /// The method asked for.
        method: String,
        /// The path asked for.
        path: String,
    },
    /// Our fault. The cause goes to the log.
    #[error("The server had an error while processing your request. Sorry about that! Quote the x-request-id.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How long a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptLength {
    /// Counted.
    Tokens(usize),
    /// Too long to be worth counting: its bytes cannot be fewer tokens than this.
    AtLeast(usize),
}

fn within(field: Option<&str>) -> String {
    field.map_or_else(String::new, |field| format!("in '{field}': "))
}

fn context_message(limit: usize, prompt: &PromptLength, completion: Option<u64>) -> String {
    let start = format!("This model's maximum context length is {limit} tokens.");
    match (prompt, completion) {
        (PromptLength::Tokens(prompt), Some(completion)) => format!(
            "{start} However, you requested {} tokens ({prompt} in the prompt, {completion} in the completion). Please \
             reduce the length of the prompt or the completion.",
            *prompt as u64 + completion
        ),
        (PromptLength::Tokens(prompt), None) => {
            format!("{start} However, your prompt resulted in {prompt} tokens. Please reduce its length.")
        }
        (PromptLength::AtLeast(prompt), _) => {
            format!("{start} However, your prompt resulted in at least {prompt} tokens. Please reduce its length.")
        }
    }
}

/// The limit of which an answer speaks: one that never has room, since nothing else matters then, or else the broadest budget, or
/// else the broadest rate.
fn told_of(violations: &[Violation]) -> Option<&Violation> {
    let never = violations.iter().find(|violation| violation.retry_after.is_none());
    never.or_else(|| violations.iter().find(|violation| violation.policy.is_budget())).or(violations.first())
}

/// When all of these limits have room; `None`: one never has.
fn room_after(violations: &[Violation]) -> Option<Duration> {
    let waits = violations.iter().map(|violation| violation.retry_after);
    waits.reduce(|one, other| Some(one?.max(other?))).flatten()
}

/// What has no room, in the words of the limit that is told of.
fn limit_message(violations: &[Violation]) -> String {
    let Some(told) = told_of(violations) else { return "A limit is reached.".to_owned() };
    let Violation { subject, policy, limit, used, held, asked, .. } = told;
    let (level, unit) = (subject.level(), policy.unit().as_str().replace('_', " "));
    let start = format!("Limit reached: {policy} of your {level} is {limit}");
    match room_after(violations) {
        None if *limit == 0 => format!("{start}: no request is let in."),
        None => format!("{start}, and this request may use {asked} {unit}. Shorten it or lower max_tokens."),
        Some(after) => format!(
            "{start}: {used} {unit} are used, requests under way hold {held}, and this request may use {asked}. Try again in {} s.",
            seconds(after)
        ),
    }
}

/// Whole seconds, rounded up, as Retry-After has them.
pub(crate) const fn seconds(time: Duration) -> u64 {
    time.as_secs() + (time.subsec_nanos() > 0) as u64
}

fn job_message(failure: &JobFailure) -> String {
    match failure {
        // What a node says of itself is for the log.
        JobFailure::Internal(_) => "The server had an error while processing your request.".to_owned(),
        JobFailure::DeadLetter { attempts, .. } => format!("The request failed {attempts} times and was given up."),
        shown => capitalised(&shown.to_string()),
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), characters.as_str()))
}

impl ApiError {
    /// A value that a field may not have, with what is allowed and what was given.
    #[must_use]
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidValue { param: param.into(), message: message.into() }
    }

    /// A field or value of the official API that is not supported here.
    #[must_use]
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unsupported { param: param.into(), message: message.into() }
    }

    /// A job's failure; one of its constraint names the field that asked for it, and a take-down the adapter, if there
    /// is only one.
    #[must_use]
    pub fn of_job(failure: JobFailure, constraint: Option<&str>, adapter: Option<&str>) -> Self {
        match (failure, constraint, adapter) {
            (failure @ (JobFailure::Constraint(_) | JobFailure::ConstraintLimit { .. }), Some(param), _) => {
                Self::Constraint { param: param.to_owned(), failure }
            }
            (JobFailure::TakenDown, _, Some(adapter)) => Self::ModelTakenDown(adapter.to_owned()),
            (failure, ..) => Self::Job(failure),
        }
    }

    /// A broken invariant of ours.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }
}
