//! The queue inside one process.
//!
//! Everything lies behind one std mutex. Each operation is a short section without await, the same step that a remote
//! store would run as one function; waiting happens outside on doorbells. Time is tokio's, so that tests can pause it.

mod claim;
mod dead;
mod gateways;
mod lease;
mod mailbox;
mod nodes;
mod orders;
mod peek;
mod pool;
mod popular;
mod take_down;
mod unposted;
mod vtc;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use souk_protocol::{Fetchable, GatewayId, JobId, NodeId, PoolId, RequestId, TokenId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::pool::Pool;
use crate::config::QueueConfig;
use crate::error::QueueError;
use crate::nodes::{LaneStatus, NodeStatus};
use crate::popular::Popular;
use crate::port::JobQueue;
use crate::words::{
    Cancelled, Claim, DeadLetter, Delivered, Delivery, Lease, LeaseProgress, Life, NodeOrder, Notice, NumberedOrder,
    OrderNumber, Orphan, PoolStats, Settlement, Submission, Submitted,
};

/// The in-memory [`JobQueue`]. Its jobs live as long as the process.
pub struct MemoryQueue {
    config: QueueConfig,
    pools: Mutex<HashMap<PoolId, Pool>>,
    doorbells: Doorbells,
}

/// One bell per kind of waiting. A ring wakes all who wait; each looks for itself. There are few nodes in one process.
#[derive(Default)]
struct Doorbells {
    work: Notify,
    cancellations: Notify,
    notices: Notify,
    orders: Notify,
}

impl MemoryQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(config: QueueConfig) -> Self {
        Self { config, pools: Mutex::default(), doorbells: Doorbells::default() }
    }

    /// Runs one atomic step on a pool, after everything that fell due has happened, then rings the bells that the step
    /// asks for.
    fn step<R>(&self, pool: PoolId, act: impl FnOnce(&mut Pool, Instant) -> R) -> R {
        let (result, rings) = {
            let mut pools = self.lock();
            let pool = pools.entry(pool).or_insert_with(|| Pool::new(self.config));
            let now = Instant::now();
            pool.sweep(now);
            (act(pool, now), pool.take_rings())
        };
        if rings.work {
            self.doorbells.work.notify_waiters();
        }
        if rings.cancellations {
            self.doorbells.cancellations.notify_waiters();
        }
        if rings.notices {
            self.doorbells.notices.notify_waiters();
        }
        if rings.orders {
            self.doorbells.orders.notify_waiters();
        }
        result
    }

    /// Repeats `look` at each ring of `bell`, and whenever time alone may have changed the answer, until it finds
    /// something or `timeout` is over.
    async fn wait_for<R>(
        &self,
        pool: PoolId,
        bell: &Notify,
        timeout: Duration,
        look: impl Fn(&mut Pool, Instant) -> Option<R>,
    ) -> Option<R> {
        let end = Instant::now() + timeout;
        loop {
            let rung = bell.notified();
            tokio::pin!(rung);
            // Enabled before looking, so that a ring between the look and the wait is not missed.
            rung.as_mut().enable();
            let (found, change) = self.step(pool, |pool, now| (look(pool, now), pool.next_change(now)));
            if found.is_some() || Instant::now() >= end {
                return found;
            }
            tokio::select! {
                () = rung => {}
                () = sleep_until(change.map_or(end, |change| change.min(end))) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PoolId, Pool>> {
        // No step panics half-way through a change of its own making; refusing all work for ever would be worse.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl JobQueue for MemoryQueue {
    async fn submit(&self, submission: Submission) -> Result<Submitted, QueueError> {
        self.step(submission.job.pool, |pool, now| pool.submit(submission, now))
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>, QueueError> {
        Ok(self.step(claim.pool, |pool, now| pool.claim(&claim, now)))
    }

    async fn wait(&self, claim: &Claim, timeout: Duration) -> Result<bool, QueueError> {
        let look = |pool: &mut Pool, now| pool.finds(claim, now).then_some(());
        Ok(self.wait_for(claim.pool, &self.doorbells.work, timeout, look).await.is_some())
    }

    async fn peek(&self, pool: PoolId, node: &NodeId, max_jobs: usize) -> Result<Vec<Fetchable>, QueueError> {
        Ok(self.step(pool, |pool, now| pool.peek(node, max_jobs, now)))
    }

    async fn renew(&self, pool: PoolId, progress: &[LeaseProgress]) -> Result<Vec<Lease>, QueueError> {
        Ok(self.step(pool, |pool, now| pool.renew(progress, now)))
    }

    async fn settle(&self, pool: PoolId, lease: &Lease, settlement: Settlement) -> Result<(), QueueError> {
        self.step(pool, |pool, now| pool.settle(lease, settlement, now))
    }

    async fn cancel(&self, pool: PoolId, job: &JobId) -> Result<Cancelled, QueueError> {
        Ok(self.step(pool, |pool, now| pool.cancel(job, now)))
    }

    async fn next_cancelled(&self, pool: PoolId, node: &NodeId, timeout: Duration) -> Result<Vec<Lease>, QueueError> {
        let bell = &self.doorbells.cancellations;
        let found = self.wait_for(pool, bell, timeout, |pool, _| pool.cancellations.take(node));
        Ok(found.await.unwrap_or_default())
    }

    async fn next_notices(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        timeout: Duration,
    ) -> Result<Vec<Notice>, QueueError> {
        let found = self.wait_for(pool, &self.doorbells.notices, timeout, |pool, _| pool.notices.take(gateway));
        Ok(found.await.unwrap_or_default())
    }

    async fn resume(&self, pool: PoolId, job: &JobId, tokens: Vec<TokenId>) -> Result<bool, QueueError> {
        Ok(self.step(pool, |pool, _| pool.resume(job, tokens)))
    }

    async fn take_back(
        &self,
        pool: PoolId,
        job: &JobId,
        attempt: u32,
        tokens: Vec<TokenId>,
    ) -> Result<bool, QueueError> {
        let lease = Lease { job: job.clone(), attempt };
        Ok(self.step(pool, |pool, now| pool.take_back(&lease, tokens, now)))
    }

    async fn order(&self, pool: PoolId, order: NodeOrder) -> Result<(), QueueError> {
        self.step(pool, |pool, now| pool.order(order, now));
        Ok(())
    }

    async fn next_orders(
        &self,
        pool: PoolId,
        after: OrderNumber,
        timeout: Duration,
    ) -> Result<Vec<NumberedOrder>, QueueError> {
        let found = self.wait_for(pool, &self.doorbells.orders, timeout, |pool, _| pool.orders.after(after));
        Ok(found.await.unwrap_or_default())
    }

    async fn heartbeat(&self, status: NodeStatus) -> Result<OrderNumber, QueueError> {
        Ok(self.step(status.pool, |pool, now| pool.heartbeat(status, now)))
    }

    async fn retire(&self, pool: PoolId, node: &NodeId) -> Result<(), QueueError> {
        self.step(pool, |pool, now| pool.retire(node, now));
        Ok(())
    }

    async fn lanes(&self, pool: PoolId) -> Result<Vec<LaneStatus>, QueueError> {
        Ok(self.step(pool, |pool, now| pool.lanes(now)))
    }

    async fn dead_letters(&self, pool: PoolId) -> Result<Vec<DeadLetter>, QueueError> {
        Ok(self.step(pool, |pool, _| pool.dead_letters()))
    }

    async fn replay(&self, pool: PoolId, job: &JobId) -> Result<(), QueueError> {
        self.step(pool, |pool, now| pool.replay(job, now))
    }

    async fn gateway_heartbeat(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        delivered: &[Delivered],
    ) -> Result<Life, QueueError> {
        self.step(pool, |pool, now| pool.gateway_heartbeat(gateway, delivered, now));
        // It loses what it knows with the process alone.
        Ok(Life(0))
    }

    async fn next_orphaned(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        timeout: Duration,
    ) -> Result<Vec<Orphan>, QueueError> {
        // Who ends a job rings this bell, and time does what is left.
        let look = |pool: &mut Pool, now| pool.orphans(gateway, now);
        Ok(self.wait_for(pool, &self.doorbells.notices, timeout, look).await.unwrap_or_default())
    }

    async fn acknowledge(&self, pool: PoolId, requests: &[RequestId]) -> Result<(), QueueError> {
        self.step(pool, |pool, _| requests.iter().for_each(|request| pool.unposted.forget(request)));
        Ok(())
    }

    async fn say_popular(&self, pool: PoolId, gateway: &GatewayId, adapters: Vec<Popular>) -> Result<(), QueueError> {
        self.step(pool, |pool, now| pool.popularity.say(gateway, adapters, now));
        Ok(())
    }

    async fn popular(&self, pool: PoolId, most: usize) -> Result<Vec<Fetchable>, QueueError> {
        Ok(self.step(pool, |pool, now| pool.popularity.most(most, now)))
    }

    async fn unposted(&self, pool: PoolId, requests: &[RequestId]) -> Result<Vec<RequestId>, QueueError> {
        Ok(self.step(pool, |pool, _| requests.iter().filter(|request| pool.unposted.has(request)).cloned().collect()))
    }

    async fn stats(&self, pool: PoolId) -> Result<PoolStats, QueueError> {
        Ok(self.step(pool, |pool, now| pool.stats(now)))
    }
}
