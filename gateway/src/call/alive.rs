//! What this gateway tells the queue of a pool each second: that it lives, and what it has delivered, so that another can write it down.
//!
//! What happens when: a queue that has lost what it knew says so in its answer. Each job whose answer is waited for is submitted again,
//! numbered after the attempts that there were and with the tokens that have come, from which the next node goes on; the attempt that
//! runs delivers until its node hears that its lease is lost, and what the next one repeats is taken out. What the queue knows already
//! stays as it is, so nothing is queued twice. Versions that were taken down are ordered again, too. A queue that cannot take a job
//! now is asked again each second, until the job's deadline.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use souk_protocol::{GatewayId, PoolId};
use souk_queue::{EventHub, JobQueue, Life, NodeOrder, QueueError, SoFar, Submission, Submitted};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::open_jobs::{OpenJobs, Standing};
use crate::metrics;

/// How often a gateway says that it lives.
const EVERY: Duration = Duration::from_secs(1);
/// For how long it then puts in again what the queue has lost.
const AGAIN_WITHIN: Duration = Duration::from_secs(2);
/// Jobs that are submitted again at once.
const AT_ONCE: usize = 64;

/// One for each pool.
pub(crate) struct Alive {
    pub(crate) queue: Arc<dyn JobQueue>,
    pub(crate) hub: EventHub,
    pub(crate) open_jobs: OpenJobs,
    pub(crate) pool: PoolId,
    pub(crate) gateway: GatewayId,
}

impl Alive {
    /// Tells it, for ever.
    pub(crate) async fn go_on(self) {
        let mut every = interval(EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_away, mut owes_orders) = (false, false);
        loop {
            every.tick().await;
            match self.tell().await {
                Ok((life, is_another)) => {
                    is_away = false;
                    owes_orders |= is_another;
                    // The next sign of life does not wait for it: what was not done by then is done after that one.
                    let again = async {
                        self.submit_again(life).await;
                        owes_orders = owes_orders && self.order_again().await.is_err();
                    };
                    tokio::time::timeout(AGAIN_WITHIN, again).await.ok();
                }
                Err(error) if !std::mem::replace(&mut is_away, true) => {
                    tracing::warn!(%error, pool = %self.pool.0, "the queue cannot be told that this gateway lives");
                }
                Err(_) => {}
            }
        }
    }

    /// Returns which life of its data the queue is in, and whether that is another one than before.
    async fn tell(&self) -> Result<(Life, bool), QueueError> {
        let delivered = self.open_jobs.untold(self.pool);
        let life = self.queue.gateway_heartbeat(self.pool, &self.gateway, &delivered).await?;
        let is_another = self.open_jobs.hear_life(self.pool, life);
        if is_another {
            tracing::error!(pool = %self.pool.0, "The queue has lost what it knew; what is open here is submitted again");
        } else {
            self.open_jobs.told(&delivered);
            metrics::sign_of_life();
        }
        Ok((life, is_another))
    }

    async fn order_again(&self) -> Result<(), QueueError> {
        for digest in self.open_jobs.taken_down() {
            let ordered = self.queue.order(self.pool, NodeOrder::TakeDown(digest)).await;
            ordered.inspect_err(
                |error| tracing::warn!(%error, adapter.digest = %digest, "cannot order a take-down again"),
            )?;
        }
        Ok(())
    }

    async fn submit_again(&self, life: Life) {
        let unknown = futures::stream::iter(self.open_jobs.unknown_in(self.pool, life));
        unknown.for_each_concurrent(AT_ONCE, |standing| self.submit_one_again(standing, life)).await;
    }

    async fn submit_one_again(&self, standing: Arc<Standing>, life: Life) {
        let Standing { submission, deadline, .. } = &*standing;
        let job = &submission.job.id;
        let Some(SoFar { tokens, attempts }) = self.hub.so_far(job).filter(|_| self.open_jobs.is_standing(job)) else {
            return;
        };
        let mut again = submission.clone();
        again.job.resume = tokens;
        again.job.time_left = Some(deadline.saturating_duration_since(Instant::now()));
        // One may have been on its way here that has not said anything yet.
        again.attempts = attempts + 1;
        match self.queue.submit(again).await {
            Ok(submitted) => {
                if submitted == Submitted::Queued {
                    metrics::submitted_again();
                    tracing::info!(%job, attempts, "a job that the queue had lost is there again");
                }
                self.stands_again(submission, *deadline, life).await;
            }
            Err(error) => tracing::warn!(%error, %job, "a job that the queue has lost cannot be submitted again yet"),
        }
    }

    /// A job whose answer nobody waits for any more by now has been cancelled before it was there again.
    async fn stands_again(&self, submission: &Submission, deadline: Instant, life: Life) {
        let job = &submission.job.id;
        if self.open_jobs.is_standing(job) {
            let standing = Standing { submission: submission.clone(), deadline, life: Some(life) };
            return self.open_jobs.stands(standing);
        }
        if let Err(error) = self.queue.cancel(self.pool, job).await {
            tracing::warn!(%error, %job, "cannot cancel a job");
        }
    }
}
