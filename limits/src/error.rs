//! Why nothing was reserved, or nothing done.

use std::time::Duration;

use souk_protocol::TotalKey;

use crate::words::Violation;

/// The store behind the port does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the store of limits cannot be reached")]
pub struct LimitsError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Why nothing was reserved, at no level.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// These limits have no room, broadest level first. Never empty; the first is the one to be told.
    #[error("{} limits have no room for the request", .0.len())]
    Refused(Vec<Violation>),
    /// The store has not heard how much these budgets have used: tell it with [`Limits::count`](crate::Limits::count), and ask
    /// again.
    #[error("the sums of {} budgets are not known", .0.len())]
    TotalsUnknown(Vec<TotalKey>),
    /// The store has lost what it knew, and other gateways have not told it yet what they hold. Budgets stay shut for so long.
    #[error("what is held of the budgets is being gathered")]
    Gathering {
        /// For how much longer.
        retry_after: Duration,
    },
    /// The store does not answer.
    #[error(transparent)]
    Unavailable(#[from] LimitsError),
}
