//! What travels from a node back to the gateway while a job runs.

use serde::{Deserialize, Serialize};

use crate::base::TokenId;
use crate::usage::{Outcome, Usage};

/// The logprob of a token beside its likeliest alternatives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprobs {
    /// Natural logarithm of the token's probability under the unmodified model distribution.
    pub logprob: f32,
    /// The likeliest tokens with their logprobs, likeliest first; ties go to the lower id.
    pub top: Vec<(TokenId, f32)>,
}

/// A generated token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenOut {
    /// Its id in the base model's vocabulary.
    pub id: TokenId,
    /// Present where the job asked for it.
    pub logprobs: Option<TokenLogprobs>,
}

/// Why a job ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model ended its answer.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
    /// The caller went away or said stop.
    Cancelled,
}

/// Why a job ended without an answer. Each message is fit to be shown to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum JobFailure {
    /// The adapter could not be made resident.
    #[error("the adapter cannot be loaded: {0}")]
    Adapter(String),
    /// The adapter waited in vain, for room beside those in use or for a load that took too long. Later it may not.
    #[error("{0}")]
    AdapterBusy(String),
    /// The model produced NaN or infinity for this request.
    #[error(
        "the model produced a value that is not finite at position {position}; the adapter's weights may be too large"
    )]
    NotFinite {
        /// Position in the context, from 0.
        position: u32,
    },
    /// The job cannot fit on this node however long it waits.
    #[error("the request needs {needed} {unit} and the node has {available}")]
    TooLarge {
        /// What is short, for example `KV blocks`.
        unit: String,
        /// How much the job needs.
        needed: u64,
        /// How much there is in all.
        available: u64,
    },
    /// The request's constraint cannot be compiled, or only beyond the limits.
    #[error("the constraint cannot be used: {0}")]
    Constraint(String),
    /// The constraint compiled, and went beyond its limits while it was followed.
    #[error("the constraint went beyond its limits after {num_tokens} tokens of the answer: {reason}")]
    ConstraintLimit {
        /// Tokens of the answer until then.
        num_tokens: u32,
        /// Which limit.
        reason: String,
    },
    /// What the job needs before it begins is taken by others, or by the caller's other jobs. It has not begun, and may
    /// come again in a second.
    #[error("{what}")]
    Busy {
        /// What is taken, with what is held and asked for.
        what: String,
        /// Whether it is the caller's own share that is taken.
        is_share: bool,
    },
    /// The deadline passed first.
    #[error("the deadline passed before the answer was complete")]
    DeadlineExceeded,
    /// A version that the job uses was taken down while it waited or ran.
    #[error("the model was taken down")]
    TakenDown,
    /// The key that asked was revoked while the job waited or ran.
    #[error("the API key was revoked")]
    KeyRevoked,
    /// The node is stopping and no other took the job.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// The job was delivered too often without an end.
    #[error("the job was given up after {attempts} attempts: {reason}")]
    DeadLetter {
        /// How often it was delivered.
        attempts: u32,
        /// What the last attempt said.
        reason: String,
    },
    /// Anything else; the log has the cause.
    #[error("internal error: {0}")]
    Internal(String),
}

impl FinishReason {
    /// How such a job ended, for its record. A node hears that a job is cancelled and not why; where it was not the
    /// caller who left, the gateway that cancelled knows.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Stop => Outcome::Stop,
            Self::Length => Outcome::Length,
            Self::Cancelled => Outcome::CallerLeft,
        }
    }
}

impl JobFailure {
    /// How such a job ended, for its record, after so many tokens of its answer. What a model or an adapter does wrong
    /// (a load that fails, values that are not finite) is not the caller's fault and counts as our error.
    #[must_use]
    pub const fn outcome(&self, num_tokens: u32) -> Outcome {
        let outcome = match self {
            Self::TooLarge { .. } | Self::Constraint(_) | Self::Busy { .. } => Outcome::Refused,
            Self::ConstraintLimit { .. } => Outcome::DeadEnd,
            Self::DeadlineExceeded => Outcome::Deadline,
            Self::TakenDown => Outcome::TakenDown,
            Self::KeyRevoked => Outcome::KeyRevoked,
            Self::ShuttingDown => Outcome::Drained,
            Self::Adapter(_)
            | Self::AdapterBusy(_)
            | Self::NotFinite { .. }
            | Self::DeadLetter { .. }
            | Self::Internal(_) => Outcome::Failed,
        };
        outcome.after(num_tokens)
    }
}

/// One message about a job. Order: `Started`, any number of `PromptLogprobs` and `Tokens`, then one `Finished` or
/// `Failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobEvent {
    /// A node took the job into its batch.
    Started,
    /// Logprobs of prompt tokens, in order and without gaps; the first prompt token has none (`None`).
    PromptLogprobs(Vec<Option<TokenLogprobs>>),
    /// New tokens of the answer.
    Tokens {
        /// Index of the first of them in the answer, from 0 (`resume` tokens count). Lets a receiver drop repeats.
        offset: u32,
        /// The tokens, in order.
        tokens: Vec<TokenOut>,
    },
    /// The end, in good order.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Exact counts.
        usage: Usage,
    },
    /// The end, without an answer.
    Failed(JobFailure),
}

impl JobEvent {
    /// Whether no event follows this one.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Failed(_))
    }
}
