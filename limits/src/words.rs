//! What is said to the port and by it.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::{Limit, LimitTree, Policy, RequestId, Subject, TenantId, TotalKey, Unit};

/// Largest rate: what is above it counts as it. A store computes with what a double holds exactly, in parts of a
/// sixty-thousandth.
pub const MAX_RATE: u64 = 100_000_000_000;

/// Largest budget, and most that one request can use or a sum can be, for the same reason; and an Integer of a structured header
/// has no more digits (RFC 9651 §3.3.1).
pub const MAX_BUDGET: u64 = 999_999_999_999_999;

/// A limit's value as stores count with it.
#[must_use]
pub(crate) fn value_of(policy: Policy, limit: Limit) -> u64 {
    limit.value.min(if policy.is_budget() { MAX_BUDGET } else { MAX_RATE })
}

/// How much of each unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts.
    pub input_tokens: u64,
    /// Tokens of answers.
    pub output_tokens: u64,
    /// Tokens that training reads.
    pub training_tokens: u64,
}

impl Amounts {
    /// How much of one unit. Versions are counted where they are published, and not here.
    #[must_use]
    pub const fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::InputTokens => self.input_tokens,
            Unit::OutputTokens => self.output_tokens,
            Unit::Tokens => self.input_tokens.saturating_add(self.output_tokens),
            Unit::TrainingTokens => self.training_tokens,
            Unit::Versions => 0,
        }
    }

    /// The lesser of each unit.
    #[must_use]
    pub fn at_most(self, most: Self) -> Self {
        Self {
            requests: self.requests.min(most.requests),
            input_tokens: self.input_tokens.min(most.input_tokens),
            output_tokens: self.output_tokens.min(most.output_tokens),
            training_tokens: self.training_tokens.min(most.training_tokens),
        }
    }

    /// Whether it costs anything at a budget.
    #[must_use]
    pub const fn costs(&self) -> bool {
        self.input_tokens > 0 || self.output_tokens > 0 || self.training_tokens > 0
    }
}

/// A request that wants to run.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Its id, under which what it reserves is held.
    pub request: RequestId,
    /// Its tenant, whose state is in one place.
    pub tenant: TenantId,
    /// What binds it.
    pub tree: Arc<LimitTree>,
    /// Most that it can use.
    pub amounts: Amounts,
    /// When it was admitted, in milliseconds since the Unix epoch: it counts in the day and the month of this moment, however
    /// long it runs and whatever the clock does.
    pub at_ms: u64,
}

/// What is held for a request: what it has reserved, or, once it is settled, what it used and no total counts yet.
///
/// Its gateway keeps it too, so that a store that lost its data can be told again.
#[derive(Clone, Debug)]
pub struct Held {
    /// What was asked, with the amounts that are held now.
    pub ask: Ask,
    /// Whether it is settled: then it has no lease and stays until a total counts it.
    pub is_settled: bool,
}

/// What was reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// How each limit that binds the caller stands now, broadest level first. Limits on versions are not among them, nor those in
    /// shadow mode, by which no client has to pace itself.
    pub standings: Vec<Standing>,
    /// Limits in shadow mode that would have refused it, broadest level first.
    pub shadowed: Vec<Violation>,
    /// Budgets in shadow mode whose totals the store has not heard: nobody can say whether they would have refused. What
    /// only shadows refuses nothing, so nothing waited for them; tell the store with [`Limits::count`](crate::Limits::count).
    pub unknown: Vec<TotalKey>,
}

/// How one limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whose limit.
    pub subject: Subject,
    /// Which.
    pub policy: Policy,
    /// Most in its period.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// When all of it is there again: the bucket full, or the period over.
    pub resets_in: Duration,
}

/// A limit that has no room for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Whose limit.
    pub subject: Subject,
    /// Which.
    pub policy: Policy,
    /// Most in its period.
    pub limit: u64,
    /// What is used of it: counted by rows or taken from the bucket.
    pub used: u64,
    /// What requests under way hold of it; 0 of rates, which do not tell the two apart.
    pub held: u64,
    /// What was asked for.
    pub asked: u64,
    /// When to come back: once the bucket has filled so far, or the period is over, or soon, where requests under way hold what
    /// is missing. `None`: never, since more was asked for than the whole limit.
    pub retry_after: Option<Duration>,
}
