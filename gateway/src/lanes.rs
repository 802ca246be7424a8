//! The live view of the nodes of a pool, and where it sends jobs.
//!
//! The view is read a few times a second in the background, so that no request asks the queue which nodes there are; each job that
//! is sent counts here at once. It is read at once where it knows of no node, and soon after a job has lost its node.
//!
//! What happens when: a node that is lost is known to be so when the queue says so, after its heartbeat has lapsed and one reading
//! more; jobs that go to its lane meanwhile are everyone's. While the queue cannot be read the last view stands for
//! [`BELIEVED_FOR`]; after that any node will do, which is the queue's to say. The view is this process's own: gateways that come
//! and go share nothing but what nodes say.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use souk_protocol::{AdapterUse, Digest, GatewayId, NodeId};
use souk_queue::{AdapterTier, JobQueue, MOST_POPULAR_NAMED, QueueError};
use souk_routing::{Job, Router, RoutingSettings};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::metrics;
use crate::popular::{Popularity, TELL_EVERY};
use crate::served::ServedBase;

/// Time between two readings of a pool of few nodes.
const READ_EVERY: Duration = Duration::from_millis(250);
/// Time for each node between two readings, so that 1,000 nodes, whose statuses are some 10 MB, are read once a second: as often as
/// they say anything.
const READ_EVERY_PER_NODE: Duration = Duration::from_millis(1);
/// Time between two readings, however much happens.
const READ_AGAIN: Duration = Duration::from_millis(20);
/// How long a view is believed while no newer one can be had.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// The lanes of one pool.
pub(crate) struct Lanes {
    queue: Arc<dyn JobQueue>,
    base: Arc<ServedBase>,
    // A std mutex: sections are short and have no await.
    view: Mutex<View>,
    /// Held while the queue is read.
    reading: tokio::sync::Mutex<()>,
    /// Rung when a reading should not wait for its turn.
    soon: Notify,
    /// How many nodes the last reading has found.
    num_nodes: watch::Sender<usize>,
    popularity: Popularity,
}

struct View {
    router: Router,
    /// When the queue was read last.
    read_at: Option<Instant>,
    /// Whether the last reading failed.
    is_lost: bool,
}

/// A pool has no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoNode;

/// A job in the lane that it was sent to, where it counts until this is dropped.
pub(crate) struct SentJob {
    lanes: Arc<Lanes>,
    lane: NodeId,
}

impl SentJob {
    /// The lane.
    pub(crate) const fn lane(&self) -> &NodeId {
        &self.lane
    }

    /// The job has lost its node.
    pub(crate) fn lost_its_node(&self) {
        self.lanes.soon.notify_one();
    }
}

impl Drop for SentJob {
    fn drop(&mut self) {
        self.lanes.view().router.ended(&self.lane);
    }
}

impl Lanes {
    /// A view of a base's pool, which was not read yet.
    pub(crate) fn new(queue: Arc<dyn JobQueue>, base: Arc<ServedBase>) -> Arc<Self> {
        let router = Router::new(RoutingSettings::default(), Instant::now().into_std());
        Arc::new(Self {
            queue,
            base,
            view: Mutex::new(View { router, read_at: None, is_lost: false }),
            reading: tokio::sync::Mutex::new(()),
            soon: Notify::new(),
            num_nodes: watch::Sender::new(0),
            popularity: Popularity::default(),
        })
    }

    /// What the pool's base model is called.
    pub(crate) fn base_id(&self) -> &str {
        &self.base.id
    }

    /// Keeps the view live, for ever.
    pub(crate) async fn keep_live(self: Arc<Self>) {
        loop {
            self.read_again().await;
            let nodes = u32::try_from(*self.num_nodes.borrow()).unwrap_or(u32::MAX);
            let pause = READ_EVERY.max(READ_EVERY_PER_NODE * nodes);
            let _ = tokio::time::timeout(pause, self.soon.notified()).await;
        }
    }

    /// Tells the queue which adapters are asked for most, for ever.
    pub(crate) async fn keep_telling(self: Arc<Self>, gateway: GatewayId) {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            let most_asked = self.view().router.most_asked(MOST_POPULAR_NAMED, Instant::now().into_std());
            let Some(popular) = self.popularity.tell(&most_asked) else { continue };
            if let Err(error) = self.queue.say_popular(self.base.pool(), &gateway, popular).await {
                tracing::debug!(%error, base = self.base.id, "cannot say which adapters are asked for");
                self.popularity.was_not_told();
            }
        }
    }

    /// Sends the jobs of one request, which share their adapters, to a lane. Empty: any node will do.
    ///
    /// # Errors
    /// [`NoNode`] if there is none.
    pub(crate) async fn send(
        self: &Arc<Self>,
        adapter: Option<&AdapterUse>,
        jobs: u32,
    ) -> Result<Vec<SentJob>, NoNode> {
        adapter.into_iter().for_each(|adapter| self.popularity.asked(adapter));
        match self.num_nodes().await {
            Some(0) => return Err(NoNode),
            Some(_) => {}
            None => return Ok(Vec::new()),
        }
        let adapter = adapter.map(|adapter| &adapter.digest);
        let choice = self.view().router.choose(Job { adapter, jobs }, Instant::now().into_std());
        let Some(choice) = choice else { return Ok(Vec::new()) };
        metrics::routed(&choice, jobs);
        Ok((0..jobs).map(|_| SentJob { lanes: Arc::clone(self), lane: choice.node.clone() }).collect())
    }

    /// How many live nodes the pool has; `None` while the queue cannot say. What seems to be none is read anew.
    pub(crate) async fn num_nodes(&self) -> Option<usize> {
        let known = |view: &View| {
            let is_believed = view.read_at.is_some_and(|at| at.elapsed() < BELIEVED_FOR);
            is_believed.then(|| view.router.num_lanes())
        };
        if let Some(num_nodes @ 1..) = known(&self.view()) {
            return Some(num_nodes);
        }
        self.read_again().await;
        known(&self.view())
    }

    /// Waits until the pool has a node, at most for `timeout`. Returns whether it has.
    pub(crate) async fn wait_for_node(&self, timeout: Duration) -> bool {
        let _waits = metrics::WaitingForNode::enter(&self.base.id);
        let mut num_nodes = self.num_nodes.subscribe();
        tokio::time::timeout(timeout, num_nodes.wait_for(|num_nodes| *num_nodes > 0)).await.is_ok()
    }

    /// The nodes that have an adapter in memory, with the highest tier that it is in.
    pub(crate) fn warm(&self, adapter: &Digest) -> Vec<(NodeId, AdapterTier)> {
        self.view().router.warm(adapter).map(|(node, tier)| (node.clone(), tier)).collect()
    }

    /// Reads the queue, unless that was done a moment ago. Who comes while another reads has what that one finds.
    async fn read_again(&self) {
        let _reading = self.reading.lock().await;
        if self.view().read_at.is_some_and(|at| at.elapsed() < READ_AGAIN) {
            return;
        }
        match self.queue.lanes(self.base.pool()).await {
            Ok(lanes) => self.found(lanes),
            Err(error) => self.lost(&error),
        }
    }

    fn found(&self, lanes: Vec<souk_queue::LaneStatus>) {
        let now = Instant::now();
        let mut view = self.view();
        let strangers = view.router.refresh(lanes, now.into_std());
        view.read_at = Some(now);
        let was_lost = std::mem::take(&mut view.is_lost);
        let (num_nodes, num_places) = (view.router.num_lanes(), view.router.num_places());
        let context_tokens = view.router.context_tokens().map(|tokens| tokens as usize);
        self.base.set_what_nodes_take(context_tokens, view.router.max_rank());
        drop(view);
        for stranger in strangers {
            let (protocol, ours) = (stranger.protocol, souk_queue::PROTOCOL_VERSION);
            tracing::warn!(node = %stranger.node, protocol, ours, "a node of another protocol version gets no jobs");
        }
        if was_lost {
            tracing::info!(base = self.base.id, "the queue says again which nodes there are");
        }
        metrics::nodes(&self.base.id, num_nodes, num_places);
        self.num_nodes.send_replace(num_nodes);
    }

    fn lost(&self, error: &QueueError) {
        if !std::mem::replace(&mut self.view().is_lost, true) {
            tracing::warn!(%error, base = self.base.id, "the queue does not say which nodes there are");
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
