//! What is said to the port and by it.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::{LimitTree, Policy, RequestId, Subject, TenantId, Unit};

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
    /// How each limit that binds the caller stands now, broadest level first.
    pub standings: Vec<Standing>,
    /// Limits in shadow mode that would have refused it, broadest level first.
    pub shadowed: Vec<Violation>,
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
