//! The port between gateways and the store of limits.

use std::time::Duration;

use async_trait::async_trait;
use souk_protocol::{RequestId, TenantId, Total};

use crate::error::{LimitsError, ReserveError};
use crate::words::{Amounts, Ask, Held, Reserved};

/// How long what is reserved is held without a renewal. A gateway renews all that it holds every third of it.
pub const LEASE: Duration = Duration::from_secs(15);

/// When to come back where requests under way hold what is missing: some of them end soon.
pub const HELD_RETRY: Duration = Duration::from_secs(1);

/// For how long a store remembers a total that nothing is held under and nobody asks for. Then it asks for it again.
pub const IDLE: Duration = Duration::from_secs(600);

/// Limits on what tenants, teams, members and keys use.
///
/// # What is counted
///
/// A **rate** is a token bucket of one minute's worth. [`reserve`](Self::reserve) takes all that a request can use from it, and
/// [`settle`](Self::settle) gives back what it did not use. A bucket that the store has not seen before is as full as it would be
/// had it been empty when the store began: a store that lost its data gives nobody a second minute's worth. When its limit
/// changes it stays as full as it was in proportion: half of the old minute's worth becomes half of the new one's. A bucket in
/// shadow mode from which a request could not be taken is left as it is, since that request would not have run.
///
/// A **budget** of a day or a month compares three sums with its limit: the *total* of the rows of usage, which comes from the
/// database and has a version; what settled requests used that no total counts yet; and what requests under way have reserved.
/// The latter two are what is *held*. The sum of the three is never above the limit, whoever calls at the same time, because
/// nothing is ever taken out of one before it is in another: a row is written in the transaction that moves the total, and
/// [`count`](Self::count) takes in the new total and lets go of what is held for its requests in one step. A total of an older
/// version than the one that is known changes nothing. So a budget cannot drift from its rows.
///
/// A total that a store has lost or forgotten becomes known by one that was *read* for it: a [`count`](Self::count) that says of no
/// request that it was written. One that comes with a write may have been under way for long, and others may have let go of
/// what they held since; it only says below which version what is read is too old.
///
/// One [`reserve`](Self::reserve) takes at all levels or at none. A limit in shadow mode takes too and refuses nothing. A budget
/// refuses nothing that costs nothing ([`Amounts::of`] its unit is 0), even one that is spent. A limit that is lowered below what
/// is used and held refuses what comes, and takes nothing away from what runs.
///
/// # What happens when
///
/// - **A request ends, however it ends.** Its gateway settles it, once. Settling twice, or what is not known, has no effect.
/// - **A gateway dies.** What its requests had reserved is let go when the lease is over: budgets have it back, buckets do not.
///   What was settled stays held until a total counts it, since its row will come: from the gateway's journal, or from whoever
///   takes over its settlements.
/// - **A gateway is paused beyond the lease.** [`renew`](Self::renew) says what is held no more; the gateway has it held again with
///   [`restore`](Self::restore), which refuses nothing. That is the one way in which a budget can be overshot, by what a gateway
///   held that stood still for a whole lease.
/// - **The store loses its data.** It knows that it began anew. Buckets begin empty. Each budget asks for its total
///   ([`ReserveError::TotalsUnknown`]), and none is open before a lease has passed ([`ReserveError::Gathering`]), within which
///   each living gateway has renewed, heard that nothing of it is known, and restored it.
/// - **The store is away.** [`ReserveError::Unavailable`]; what is to be settled, counted or restored waits in its gateway.
/// - **The wall clock steps.** A request counts in the period that it was admitted in, at each step of its life. Buckets and leases
///   go by clocks that are never set, or, in a remote store, count a step back as no time and a step ahead as a minute at most.
/// - **Limits change while something is held.** Limits come with each request and are not kept; what is held is counted under
///   any limit.
///
/// # For implementers
///
/// Each method is one atomic step over the keys of one tenant: plain data in, plain data out. No method waits.
#[async_trait]
pub trait Limits: Send + Sync {
    /// Takes all that a request can use, at all levels or at none. Reserving again what is held under the same id has no effect.
    ///
    /// # Errors
    /// [`ReserveError`].
    async fn reserve(&self, ask: &Ask) -> Result<Reserved, ReserveError>;

    /// Says what a request used, which is at most what it reserved: more counts as what it reserved. What it did not use returns;
    /// what it used of budgets stays held until [`count`](Self::count) lets go of it, and is let go at once if that is nothing.
    ///
    /// # Errors
    /// [`LimitsError`].
    async fn settle(&self, tenant: &TenantId, request: &RequestId, used: Amounts) -> Result<(), LimitsError>;

    /// Takes in totals, and lets go of what is held for requests whose rows they count. Without such requests they were read to
    /// be told, after [`ReserveError::TotalsUnknown`], and not before.
    ///
    /// # Errors
    /// [`LimitsError`].
    async fn count(&self, tenant: &TenantId, totals: &[Total], written: &[RequestId]) -> Result<(), LimitsError>;

    /// Renews what a gateway holds for a tenant, and returns what is not known.
    ///
    /// # Errors
    /// [`LimitsError`].
    async fn renew(&self, tenant: &TenantId, requests: &[RequestId]) -> Result<Vec<RequestId>, LimitsError>;

    /// Holds again what is not known any more. Takes nothing from buckets, refuses nothing, and has no effect on what is known.
    ///
    /// # Errors
    /// [`LimitsError`].
    async fn restore(&self, held: &[Held]) -> Result<(), LimitsError>;
}
