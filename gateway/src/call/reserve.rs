//! Reserves what a request can use before it is queued, at all levels of its caller's tree or at none.
//!
//! What it can use is known by then: the tokens of each prompt once, and of each job all tokens that it may answer. What it does
//! use is settled when its last job is ([`reservation`](super::reservation)). Who is bound by no limit is let in even where the
//! store of limits is away; who is bound by one is not.

use std::sync::Arc;
use std::time::Duration;

use souk_limits::{Amounts, Ask, ReserveError, Reserved, Violation};
use souk_protocol::{LimitTree, Principal, RequestId, RequestRecord, Shadowed, wall_clock};

use super::admit::Place;
use super::authorise::CalledModel;
use super::prepare::Prepared;
use super::repeat::Repeat;
use super::reservation::{Reservation, SharedReservation};
use crate::crash_points::{self, CrashPoint};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::hooks::tally::Tally;
use crate::metrics;
use crate::reply::told::Told;
use crate::usage::holdings::HoldError;
use crate::usage::journal::JournalError;
use crate::usage::opened::Opened;

/// When to come back to a journal that is full: what is written in batches leaves it in segments.
const JOURNAL_FULL_FOR: Duration = Duration::from_secs(5);
/// So much is kept of what the caller wrote in `model`: all of a reference with a digest.
const MAX_MODEL_CHARS: usize = 256;

/// Who asks for what.
#[derive(Clone, Copy)]
pub(crate) struct Asks<'a> {
    pub(crate) request: &'a RequestId,
    pub(crate) caller: &'a Principal,
    /// What binds the caller.
    pub(crate) tree: &'a Arc<LimitTree>,
    /// What is asked for, as the API calls it.
    pub(crate) operation: &'static str,
}

/// A request that is ready to be queued.
pub(crate) struct Wanted<'a> {
    pub(crate) asks: Asks<'a>,
    /// Limits in shadow mode that would have refused it, where it counts among its caller's requests already.
    pub(crate) counted: Option<Vec<Shadowed>>,
    /// What the caller wrote in `model`.
    pub(crate) name: &'a str,
    pub(crate) model: &'a CalledModel,
    pub(crate) prepared: &'a Prepared,
    /// Choices of each prompt.
    pub(crate) choices: u32,
    pub(crate) repeat: Option<Repeat>,
    /// What hooks do in it, where any act on it.
    pub(crate) hooks: Option<Arc<Tally>>,
    pub(crate) place: Place,
}

/// Reserves what a request can use and has the journal know of it. What limits say of it is noted, whether it is let in or not.
///
/// # Errors
/// [`ApiError::LimitSpent`]; where nobody can say what is used, or it can be written nowhere, [`ApiError::Unavailable`] and its
/// like. Then nothing is reserved.
pub(crate) async fn reserve(
    gateway: &Gateway,
    wanted: Wanted<'_>,
    told: &mut Told,
) -> Result<SharedReservation, ApiError> {
    let accounting = gateway.accounting();
    let ask = wanted.asks.for_amounts(wanted.most_used());
    let mut opened = wanted.opened(ask.at_ms);
    opened.head.shadowed = wanted.counted.unwrap_or_default();
    // It is there before anything is reserved, so that who leaves in between gives back what was.
    let mut reservation = Reservation::new(accounting, opened, wanted.repeat, wanted.hooks, wanted.place);
    let reserved = accounting.holdings().reserve(&ask).await.map_err(|error| refused(error, told))?;
    crash_points::pass(CrashPoint::Reserved);
    let opened = reservation.request_mut();
    opened.head.shadowed.extend(shadowed_by(&reserved));
    let opened = opened.clone();
    told.reserved(reserved);
    // Who leaves meanwhile may have left a line.
    reservation.is_in_journal(true);
    if let Err(error) = accounting.journal().opened(opened).await {
        reservation.is_in_journal(false);
        return Err(not_written(error));
    }
    crash_points::pass(CrashPoint::Opened);
    Ok(Arc::new(reservation))
}

/// Counts a request among its caller's requests before hooks act on it, at all levels or at none, for good: what hooks take is not
/// given back either. What it uses of tokens is reserved when it is known.
///
/// # Errors
/// As [`reserve`].
pub(crate) async fn count_request(
    gateway: &Gateway,
    asks: Asks<'_>,
    told: &mut Told,
) -> Result<Vec<Shadowed>, ApiError> {
    let holdings = Arc::clone(gateway.accounting().holdings());
    let one = Amounts { requests: 1, ..Amounts::default() };
    // A name of its own: what is held under the request's is all that it can use.
    let ask = Ask { request: RequestId::new(), ..asks.for_amounts(one) };
    // In a task of its own, so that it is settled whoever leaves meanwhile.
    let counted = tokio::spawn(async move {
        let reserved = holdings.reserve(&ask).await;
        if reserved.is_ok() {
            holdings.settle(&ask.request, one).await;
        }
        reserved
    });
    let reserved = counted.await.map_err(|error| ApiError::Internal(error.into()))?;
    let reserved = reserved.map_err(|error| refused(error, told))?;
    let shadowed = shadowed_by(&reserved);
    told.reserved(reserved);
    Ok(shadowed)
}

/// The limits in shadow mode that would have refused a request, counted.
fn shadowed_by(reserved: &Reserved) -> Vec<Shadowed> {
    let shadowed = reserved.shadowed.iter().map(|Violation { subject, policy, .. }| {
        metrics::limit_shadowed(subject, *policy);
        Shadowed { subject: subject.clone(), policy: *policy }
    });
    shadowed.collect()
}

impl Asks<'_> {
    fn for_amounts(&self, amounts: Amounts) -> Ask {
        Ask {
            request: self.request.clone(),
            tenant: self.caller.tenant.clone(),
            tree: Arc::clone(self.tree),
            amounts,
            at_ms: wall_clock::unix_ms(),
        }
    }

    /// What is kept of it, without jobs yet.
    pub(crate) fn head(&self, name: &str, admitted_at_ms: u64, repeat: Option<&Repeat>) -> RequestRecord {
        RequestRecord {
            request: self.request.clone(),
            tenant: self.caller.tenant.clone(),
            key: self.caller.key.clone(),
            person: self.caller.person.clone(),
            team: self.tree.team().cloned(),
            operation: self.operation.to_owned(),
            model: name.chars().take(MAX_MODEL_CHARS).collect(),
            admitted_at_ms,
            ended_at_ms: admitted_at_ms,
            repeat: repeat.and_then(Repeat::digest),
            shadowed: Vec::new(),
            hooks: Vec::new(),
            jobs: Vec::new(),
        }
    }
}

impl Wanted<'_> {
    /// All that the request can use.
    fn most_used(&self) -> Amounts {
        let prompts = &self.prepared.prompts;
        let input_tokens = prompts.iter().map(|prompt| prompt.tokens.len() as u64).sum();
        let of_each_choice: u64 = prompts.iter().map(|prompt| u64::from(prompt.max_tokens)).sum();
        let output_tokens = of_each_choice.saturating_mul(u64::from(self.choices));
        let requests = u64::from(self.counted.is_none());
        Amounts { requests, input_tokens, output_tokens, training_tokens: 0 }
    }

    /// What the journal keeps of it.
    fn opened(&self, admitted_at_ms: u64) -> Opened {
        let head = self.asks.head(self.name, admitted_at_ms, self.repeat.as_ref());
        let prompts = self.prepared.prompts.iter();
        Opened {
            head,
            base: self.model.base.pool(),
            adapters: self.model.adapters.iter().map(|(adapter, _)| adapter.digest).collect(),
            prompts: prompts.map(|prompt| u32::try_from(prompt.tokens.len()).unwrap_or(u32::MAX)).collect(),
            choices: self.choices,
        }
    }
}

/// Why nothing was reserved, as the caller hears it.
fn refused(error: HoldError, told: &mut Told) -> ApiError {
    match error {
        HoldError::Limits(ReserveError::Refused(violations)) => {
            if let Some(Violation { subject, policy, .. }) = violations.first() {
                metrics::limit_refused(subject, *policy);
            }
            told.refused(&violations);
            ApiError::LimitSpent(violations)
        }
        HoldError::Limits(ReserveError::Gathering { retry_after }) => ApiError::LimitsUnknown { retry_after },
        HoldError::Limits(error) => ApiError::Unavailable(error.into()),
        HoldError::Store(error) => ApiError::Unavailable(error.into()),
    }
}

fn not_written(error: JournalError) -> ApiError {
    match error {
        JournalError::Full { bytes, limit } => {
            tracing::error!(
                bytes,
                limit,
                "Requests are refused: the journal of usage is full, since the database is away"
            );
            ApiError::Overloaded {
                what: format!("{bytes} bytes of usage wait to be written, of at most {limit}"),
                retry_after: JOURNAL_FULL_FOR,
            }
        }
        error => ApiError::Unavailable(error.into()),
    }
}
