//! Requests that are done with here, until the queue has heard that nobody else is to write them down.
//!
//! What happens when: a queue that is away hears of them when it is back. A process that dies before has another gateway write
//! them a second time, which the database takes for what it is.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use souk_protocol::{PoolId, RequestId};
use souk_queue::UNPOSTED_KEPT;
use tokio::sync::Notify;

/// What is to be acknowledged, by pool.
#[derive(Default)]
pub(crate) struct Posted {
    pools: Mutex<HashMap<PoolId, Vec<RequestId>>>,
    rung: Notify,
}

impl Posted {
    /// These are written down, or nothing is to be.
    pub(crate) fn push(&self, pool: PoolId, requests: impl IntoIterator<Item = RequestId>) {
        let mut pools = self.lock();
        let posted = pools.entry(pool).or_default();
        posted.extend(requests);
        // The queue keeps no more either.
        let excess = posted.len().saturating_sub(UNPOSTED_KEPT);
        posted.drain(..excess);
        drop(pools);
        self.rung.notify_waiters();
    }

    /// What is to be acknowledged in a pool, once there is something; it stays until it is said to be [done](Self::done).
    pub(crate) async fn next(&self, pool: PoolId) -> Vec<RequestId> {
        loop {
            let rung = self.rung.notified();
            tokio::pin!(rung);
            // Enabled before looking, so that what comes in between is not missed.
            rung.as_mut().enable();
            if let Some(posted) = self.lock().get(&pool).filter(|posted| !posted.is_empty()) {
                return posted.clone();
            }
            rung.await;
        }
    }

    /// The queue has heard of these.
    pub(crate) fn done(&self, pool: PoolId, requests: &[RequestId]) {
        let heard: HashSet<_> = requests.iter().collect();
        if let Some(posted) = self.lock().get_mut(&pool) {
            posted.retain(|request| !heard.contains(request));
        }
    }

    /// How many the queue has not heard of.
    pub(crate) fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PoolId, Vec<RequestId>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
