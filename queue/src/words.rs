//! What goes into the queue and comes out of it: plain data only, so that each operation can be one atomic function of
//! a remote store.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use souk_protocol::{
    Digest, Fetchable, GatewayId, GenerateJob, JobFailure, JobId, NodeId, Outcome, PoolId, RequestId, Usage,
};

/// A job on its way into the queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// What to do. Its `pool` and `tenant` say where it waits.
    pub job: GenerateJob,
    /// The node that should take it because it holds the adapter; `None` leaves it to the first node with room.
    pub lane: Option<NodeId>,
    /// Where events and notices go.
    pub reply_to: ReplyTo,
    /// The job's share against other jobs.
    pub priority: Priority,
    /// What any gateway needs to write down what the job's request used, should the one that submits it be gone by then; the
    /// same for all jobs of a request. The queue does not look into it. `None`: the settlement is lost with that gateway.
    pub account: Option<Bytes>,
    /// How many attempts of it there may have been already: 0, but for a job that the queue has lost and that is submitted again.
    /// Its next attempt is numbered after them, so that they stay fenced off.
    pub attempts: u32,
}

/// The gateway that submitted a job, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReplyTo {
    /// Whose job it is.
    pub gateway: GatewayId,
    /// Where nodes dial that gateway; `None` where it is in the same process.
    #[serde(default)]
    pub advertise: Option<String>,
}

impl From<GatewayId> for ReplyTo {
    /// A gateway in the same process.
    fn from(gateway: GatewayId) -> Self {
        Self { gateway, advertise: None }
    }
}

/// A priority as a share: a job of priority 200 costs its tenant half as much as one of priority 100. There is no
/// strict order between priorities, so there is no starvation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Priority(u32);

impl Priority {
    /// The priority of an ordinary job: 100.
    pub const ORDINARY: Self = Self(100);

    /// A priority in percent of an ordinary job's, from 1 to 10000; `None` outside.
    #[must_use]
    pub const fn percent(percent: u32) -> Option<Self> {
        if matches!(percent, 1..=10_000) { Some(Self(percent)) } else { None }
    }

    /// What `tokens` cost at this priority.
    #[must_use]
    pub fn price(self, tokens: f64) -> f64 {
        tokens * 100.0 / f64::from(self.0)
    }
}

impl From<Priority> for u32 {
    /// In percent of an ordinary job's.
    fn from(priority: Priority) -> Self {
        priority.0
    }
}

impl TryFrom<u32> for Priority {
    type Error = String;

    fn try_from(percent: u32) -> Result<Self, String> {
        Self::percent(percent).ok_or_else(|| format!("a priority must be between 1 and 10000; given {percent}"))
    }
}

/// The answer to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The job waits now.
    Queued,
    /// The same id was submitted before; nothing changed.
    Already(JobState),
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It waits for a node.
    Queued,
    /// A node holds a lease on it.
    Running,
    /// It ended, was cancelled, expired or is a dead letter.
    Over,
}

/// A node's wish for work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The pool that the node serves.
    pub pool: PoolId,
    /// The node, and so its lane.
    pub node: NodeId,
    /// At most this many jobs: what the node can start soon.
    pub max_jobs: usize,
    /// At most this many beyond them, one each of tenants of whom this node holds no job. So a node that is full of one
    /// tenant's work still takes another's.
    pub max_newcomers: usize,
}

/// The right to run one attempt of a job, until it expires.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lease {
    /// The job that may be run.
    pub job: JobId,
    /// Which delivery this is, from 1. Grows with each; only the highest one counts anywhere.
    pub attempt: u32,
}

/// A job in a node's hands.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// What to do.
    pub job: GenerateJob,
    /// The node's right to do it.
    pub lease: Lease,
    /// The lease lasts this long from now; renew at a third of it.
    pub lease_for: Duration,
    /// Where events go.
    pub reply_to: ReplyTo,
    /// How long the job waited in the queue.
    pub waited: Duration,
}

/// How far a running job is. Reporting it renews the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseProgress {
    /// The attempt that reports, and whose lease is renewed.
    pub lease: Lease,
    /// Tokens generated so far, all attempts' `resume` included. A count, not a difference, so that reporting twice
    /// charges once.
    pub output_tokens: u32,
}

/// How a node gives a lease back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The job is over: answered, failed for good or cancelled. The node has sent the last event itself. The gateway
    /// that submitted the job is handed this as [`Settled`], whether anybody still listens to the job's events or not.
    Over {
        /// How it ended. A node that was told to cancel says [`Outcome::CallerLeft`].
        outcome: Outcome,
        /// What was computed, over all attempts.
        usage: Usage,
    },
    /// This attempt failed in a way that another may not. The node has sent no last event: the queue delivers again, or
    /// ends the job.
    Retry {
        /// What went wrong, for the dead letter.
        reason: String,
    },
    /// The node did not begin (it is draining). Does not count as a delivery.
    GiveBack,
}

/// What a cancellation met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// The job waited; it will never be delivered.
    Queued,
    /// The job runs; its node is told.
    Running,
    /// The job is over or unknown.
    Over,
}

/// News of a job for the gateway that submitted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The job, which this gateway submitted.
    pub job: JobId,
    /// What happened to it.
    pub kind: NoticeKind,
}

/// See [`Notice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Its attempt failed or its node was lost, and it waits again. The gateway may now hand in the tokens that it has
    /// with [`JobQueue::resume`](crate::JobQueue::resume), so that the next node need not generate them again.
    Requeued,
    /// It is over. The last notice of a job, and each job that was queued has one, exactly one.
    Settled(Settled),
}

/// How a job ended and what it used: what its node said, or the queue where there is no node to say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// How it ended.
    pub outcome: Outcome,
    /// What was computed, over all attempts. Where no node says it: the tokens that were reported with the last
    /// renewal, which may be fewer than were computed.
    pub usage: Usage,
    /// How often it was delivered.
    pub attempts: u32,
    /// What the caller is to be told where no node has sent a last event; `None` where one has.
    pub untold: Option<JobFailure>,
}

/// A request whose gateway is gone and of which no job is open any more, for another that is to write it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// The request.
    pub request: RequestId,
    /// What its gateway submitted with its jobs ([`Submission::account`]).
    pub account: Bytes,
    /// All of its jobs that were queued, by index.
    pub jobs: Vec<OrphanJob>,
}

/// How a job of an [`Orphan`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanJob {
    /// Which of the request's jobs.
    pub index: u32,
    /// How it ended and what it used.
    pub settled: Settled,
    /// Tokens of the answer that its gateway has said to have delivered, while it still said anything.
    pub delivered_tokens: u32,
}

/// What a gateway has delivered of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Whose answer.
    pub job: JobId,
    /// Tokens, all of them. A count, not a difference, so that it may be said twice.
    pub tokens: u32,
}

/// Which life of a pool's data this is: another one where the queue has lost what it knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life(pub u64);

/// Most orders that stand in one pool. Beyond it the oldest is forgotten. Nobody is served what was taken down so long
/// ago, since gateways ask the registry; but a node that was away all the time keeps its file of it until the disk tier
/// needs the room.
pub const ORDERS_KEPT: usize = 10_000;

/// Most requests of one pool that are over and wait to be written down. Beyond it the oldest is forgotten: nobody has written any
/// down for long.
pub const UNPOSTED_KEPT: usize = 65_536;

/// What the nodes of a pool are to do. Carrying an order out twice comes to the same as once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeOrder {
    /// A version was taken down: what runs with it ends at once, nothing starts with it, and no tier keeps it.
    TakeDown(Digest),
    /// These adapters stay on the device whether they are used or not, and no others. Stands until the next one.
    Pin(Vec<Fetchable>),
    /// This node takes no more jobs and lets those end that it has. Stands until it retires.
    Drain(NodeId),
}

/// The place of an order among those of its pool. Grows with each order; 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderNumber(pub u64);

/// An order that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberedOrder {
    /// Its place among the orders of its pool.
    pub number: OrderNumber,
    /// What is to be done.
    pub order: NodeOrder,
}

/// A job that was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The job as it was submitted.
    pub submission: Submission,
    /// How often it was delivered.
    pub deliveries: u32,
    /// What the last attempt said.
    pub reason: String,
}

/// Figures of one pool, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Jobs that were given up.
    pub dead_letters: usize,
    /// Each lane with something in it, and each live node's.
    pub lanes: Vec<LaneStats>,
}

/// Figures of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStats {
    /// The lane's node; `None` is the lane of jobs that have no preference.
    pub lane: Option<NodeId>,
    /// Jobs that wait.
    pub queued: usize,
    /// How long the oldest of them has waited.
    pub oldest: Option<Duration>,
    /// Whether its node's heartbeat is fresh.
    pub live: bool,
}
