//! A node: takes jobs from the queue, has their adapters made resident, hands them to the engine, settles.
//!
//! Nine tasks for the node and one per job. A job's task waits for its adapters, so a cold load delays that job and no
//! other; the engine only ever sees requests that can run at once.
//!
//! What happens when: a job whose lease is lost (the queue gave it to another) leaves the batch; so does one that is
//! cancelled. A failure that another attempt may not have is given back to the queue as such; any other is told to the
//! client. A version that is taken down leaves all tiers, and jobs that use it end. A node that is drained claims no
//! more, gives back what has not reached the engine, and lets the rest end. One that is killed says nothing, and its
//! leases expire.

mod carry_out;
mod config;
mod held_jobs;
mod job;
mod milestones;
mod orders;
mod state;
mod status;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use souk_engine::Engine;
use souk_engine::constraint::ConstraintCompiler;
use souk_protocol::NodeId;
use souk_queue::{Claim, EventSinks, JobQueue, MOST_POPULAR_NAMED};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::config::NodeConfig;
use self::held_jobs::HeldJobs;
use self::milestones::Milestones;
use self::orders::Orders;
use self::state::NodeState;
use crate::adapters::AdapterStore;

/// Longest wait in one call to the queue: how long a dead connection can go unnoticed.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Jobs that wait in the queue whose adapters are brought nearer: about what enters the batch while one adapter loads.
const LOOK_AHEAD: usize = 8;
/// How often the queue is looked at for that.
const LOOK_AHEAD_EVERY: Duration = Duration::from_millis(100);
/// Pause after the queue could not be reached.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// How soon to look again whether the batch has room, if no job has ended before.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A running node. Dropping it cuts everything off; [`drain`](Self::drain) first to let answers end.
pub struct Node {
    shared: Arc<NodeState>,
    _cut_off: DropGuard,
}

impl Node {
    /// Starts taking work. Needs a tokio runtime.
    #[must_use]
    pub fn start(
        config: NodeConfig,
        queue: Arc<dyn JobQueue>,
        events: Arc<dyn EventSinks>,
        adapters: AdapterStore,
        engine: Engine,
        constraints: ConstraintCompiler,
    ) -> Self {
        let cut_off = CancellationToken::new();
        let shared = Arc::new(NodeState {
            config,
            queue,
            events,
            adapters,
            engine,
            constraints,
            held_jobs: HeldJobs::default(),
            orders: Orders::default(),
            milestones: Milestones::default(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            claims_ended: CancellationToken::new(),
            cut_off: cut_off.clone(),
        });
        shared.spawn(Arc::clone(&shared).beat());
        shared.spawn(Arc::clone(&shared).claim_jobs());
        shared.spawn(Arc::clone(&shared).begin_warm());
        shared.spawn(Arc::clone(&shared).let_idle_go());
        shared.spawn(Arc::clone(&shared).look_ahead());
        shared.spawn(Arc::clone(&shared).report_progress());
        shared.spawn(Arc::clone(&shared).hear_cancellations());
        shared.spawn(Arc::clone(&shared).hear_orders());
        shared.spawn(Arc::clone(&shared).keep_pins());
        Self { shared, _cut_off: cut_off.drop_guard() }
    }

    /// The node's identity, and so its lane.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.shared.config.node
    }

    /// Whether the queue took its last heartbeat, so that gateways know of it.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.shared.milestones.is_registered()
    }

    /// Resolves when the queue has first taken a heartbeat, with that moment.
    pub async fn queue_reached(&self) -> Instant {
        self.shared.milestones.queue_reached().await
    }

    /// Resolves when jobs were first claimed, with that moment.
    pub async fn first_claim(&self) -> Instant {
        self.shared.milestones.first_claim().await
    }

    /// Resolves when the node was ordered to drain, or [`drain`](Self::drain) was called. It takes no more jobs then;
    /// whoever runs it may drain it to the end.
    pub async fn draining(&self) {
        self.shared.draining.cancelled().await;
    }

    /// Stops claiming, gives back what has not reached the engine, lets running answers end within `timeout`, cuts off
    /// and gives back the rest. The engine is drained too.
    pub async fn drain(&self, timeout: Duration) {
        let shared = &self.shared;
        shared.take_no_more().await;
        let all_ended = async {
            shared.claims_ended.cancelled().await;
            shared.held_jobs.wait_until_empty().await;
        };
        if tokio::time::timeout(timeout, all_ended).await.is_err() {
            tracing::warn!(jobs = shared.held_jobs.len(), ?timeout, "jobs are still running and are given back");
        }
        shared.cut_off.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
        shared.engine.drain();
    }
}

impl NodeState {
    /// Claims no more and gives back what has not reached the engine. The rest may end.
    async fn take_no_more(&self) {
        self.draining.cancel();
        let NodeConfig { pool, node, .. } = &self.config;
        if let Err(error) = self.queue.retire(*pool, node).await {
            tracing::warn!(%error, "cannot retire from the queue; its heartbeat will lapse");
        }
    }

    /// Runs one of the node's own tasks until the node is cut off.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut_off = self.cut_off.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = cut_off.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Says now and then that the node lives.
    async fn beat(self: Arc<Self>) {
        let mut tick = tokio::time::interval(self.config.heartbeat_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.draining.is_cancelled() {
                return;
            }
            let taken = self.queue.heartbeat(self.status()).await;
            self.milestones.beat(taken.is_ok());
            match taken {
                Ok(newest) => self.catch_up(newest).await,
                Err(error) => tracing::warn!(%error, "cannot send a heartbeat"),
            }
        }
    }

    /// Takes jobs while they can start soon.
    async fn claim_jobs(self: Arc<Self>) {
        let _ended = self.claims_ended.clone().drop_guard();
        loop {
            // Only the waiting may be broken off: a claim whose answer is dropped would leave its jobs without a node
            // until their leases expire.
            let found = tokio::select! {
                biased;
                () = self.draining.cancelled() => return,
                found = self.wait_for_work() => found,
            };
            let wish = self.wish();
            let max_jobs = wish.max_jobs;
            let claimed = match found {
                Ok(true) => self.queue.claim(wish).await,
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            match claimed {
                Ok(deliveries) => {
                    if !deliveries.is_empty() {
                        self.milestones.claimed();
                    }
                    for (index, delivery) in deliveries.into_iter().enumerate() {
                        job::start(&self, delivery, index >= max_jobs);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot claim jobs");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    /// Brings what is popular into memory, and what was before the start, once it is known what was taken down since.
    async fn begin_warm(self: Arc<Self>) {
        match self.queue.next_orders(self.config.pool, self.orders.done(), Duration::ZERO).await {
            Ok(orders) => self.carry_out(orders).await,
            Err(error) => {
                tracing::warn!(%error, "cannot hear orders; nothing is brought into memory ahead of its requests");
                return;
            }
        }
        let popular = self.queue.popular(self.config.pool, MOST_POPULAR_NAMED).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot hear which adapters are asked for; those on disk are brought into memory");
            Vec::new()
        });
        let num_adapters = self.adapters.prefetch_likely(&popular).await;
        if num_adapters > 0 {
            tracing::info!(num_adapters, "adapters that are asked for most were brought into memory");
        }
    }

    /// Has adapters leave memory that nobody has asked for long.
    async fn let_idle_go(self: Arc<Self>) {
        self.adapters.let_idle_go().await;
    }

    /// Brings the adapters of the next jobs nearer while there is no room for the jobs themselves.
    async fn look_ahead(self: Arc<Self>) {
        let NodeConfig { pool, node, .. } = &self.config;
        loop {
            tokio::time::sleep(LOOK_AHEAD_EVERY).await;
            if self.room() > 0 || self.draining.is_cancelled() {
                continue;
            }
            match self.queue.peek(*pool, node, LOOK_AHEAD).await {
                Ok(adapters) => adapters.iter().for_each(|adapter| {
                    self.adapters.keep_grant(adapter);
                    self.adapters.prefetch(&adapter.digest);
                }),
                Err(error) => {
                    tracing::warn!(%error, "cannot look ahead in the queue");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    /// Waits until there is room here and work there.
    async fn wait_for_work(&self) -> Result<bool, souk_queue::QueueError> {
        loop {
            let wish = self.wish();
            let is_full = wish.max_jobs == 0;
            if is_full && wish.max_newcomers == 0 {
                let _ = tokio::time::timeout(LOOK_AGAIN, self.held_jobs.next_release()).await;
                continue;
            }
            tokio::select! {
                found = self.queue.wait(&wish, LONGEST_WAIT) => return found,
                // Room may also come without a job's end: sequences enter the batch.
                _ = tokio::time::timeout(LOOK_AGAIN, self.held_jobs.next_release()), if is_full => {}
            }
        }
    }

    /// What this node would take now. How many newcomers depends on the newcomers that wait here already and on nothing
    /// that others hold: places in the batch do not bound them, since the engine makes way, and nor does what is left
    /// of K and V, of which the engine keeps a reserve.
    fn wish(&self) -> Claim {
        let NodeConfig { pool, node, max_newcomers, .. } = &self.config;
        let max_jobs = self.room();
        let requests_left = if self.engine.is_open() { self.engine.max_requests() } else { 0 };
        let requests_left = requests_left.saturating_sub(self.held_jobs.len() + max_jobs);
        let max_newcomers = max_newcomers.saturating_sub(self.held_jobs.num_newcomers_waiting()).min(requests_left);
        Claim { pool: *pool, node: node.clone(), max_jobs, max_newcomers }
    }

    /// How many more jobs can start soon.
    fn room(&self) -> usize {
        self.most_jobs().saturating_sub(self.held_jobs.len())
    }

    /// How many jobs are here when it is full: what the batch has room for, and a few that wait. The engine's last
    /// places are the newcomers'.
    fn most_jobs(&self) -> usize {
        if !self.engine.is_open() {
            return 0;
        }
        let stats = self.engine.stats();
        let soon = stats.num_running + stats.num_free_places + self.config.max_waiting;
        let max_requests = self.engine.max_requests();
        soon.min(max_requests - self.config.max_newcomers.min(max_requests / 2))
    }

    /// Renews leases, and with them reports how far each job is.
    async fn report_progress(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.held_jobs.report_every(self.config.report_every)).await;
            let progress = self.held_jobs.progress();
            if progress.is_empty() {
                continue;
            }
            match self.queue.renew(self.config.pool, &progress).await {
                Ok(lost) => {
                    for lease in lost {
                        tracing::warn!(job = %lease.job, attempt = lease.attempt, "the lease was lost; the job stops");
                        self.held_jobs.lose(&lease);
                    }
                }
                Err(error) => tracing::warn!(%error, "cannot renew leases"),
            }
        }
    }

    async fn hear_cancellations(self: Arc<Self>) {
        let NodeConfig { pool, node, .. } = &self.config;
        loop {
            match self.queue.next_cancelled(*pool, node, LONGEST_WAIT).await {
                Ok(leases) => leases.iter().for_each(|lease| self.held_jobs.cancel(lease)),
                Err(error) => {
                    tracing::warn!(%error, "cannot hear cancellations");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }
}
