//! Leases: the time-limited right to work on a row.
//!
//! Whatever a registry begins (an upload, a call with an `Idempotency-Key`) is a row with an owner and a lease, and the
//! owner renews the lease while it works. A registry that was killed or cut off renews nothing; the collector of any
//! registry then ends what it had begun ([`crate::collector`]). What was ended cannot be committed afterwards: the
//! transaction that completes the work also deletes or changes its row, and is rolled back when that row is gone.
//!
//! Moments are the database's own, so that registries with different clocks agree on them. A lease that has lapsed by
//! that clock is not ended at the first sight of it: only one that was not renewed for another half of its length,
//! measured by the collector's monotonic clock. A step of the wall clock therefore ends nothing that is alive.

use std::future::Future;
use std::time::Duration;

use sea_orm::DbErr;
use tokio_util::task::AbortOnDropHandle;

/// Renewals per lease: two may fail before anybody notices.
const RENEWALS: u32 = 3;

/// Renews a lease until it is dropped.
pub(crate) struct Renewal {
    _task: AbortOnDropHandle<()>,
}

impl Renewal {
    /// Calls `renew` three times per lease. It answers whether the row still is; when it is not, somebody ended it.
    pub(crate) fn of<Renew, Renewed>(what: String, lease: Duration, renew: Renew) -> Self
    where
        Renew: Fn() -> Renewed + Send + 'static,
        Renewed: Future<Output = Result<bool, DbErr>> + Send + 'static,
    {
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(lease / RENEWALS).await;
                match renew().await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::warn!(lease = what, "The lease of {what} was ended by another registry");
                        return;
                    }
                    Err(error) => tracing::warn!(lease = what, %error, "The lease of {what} could not be renewed"),
                }
            }
        });
        Self { _task: AbortOnDropHandle::new(task) }
    }
}

/// How long a lapsed lease has to be seen unchanged before it is ended: longer than its owner lets pass between two
/// renewals.
pub(crate) fn time_between_sights(lease: Duration) -> Duration {
    lease / 2
}
