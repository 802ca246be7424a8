//! The port between gateways and nodes.

use std::time::Duration;

use async_trait::async_trait;
use souk_protocol::{Fetchable, GatewayId, JobId, NodeId, PoolId, RequestId, TokenId};

use crate::error::QueueError;
use crate::nodes::{LaneStatus, NodeStatus};
use crate::popular::Popular;
use crate::words::{
    Cancelled, Claim, DeadLetter, Delivered, Delivery, Lease, LeaseProgress, Life, NodeOrder, Notice, NumberedOrder,
    OrderNumber, Orphan, PoolStats, Settlement, Submission, Submitted,
};

/// How long a gateway has to write down a request that another has left.
pub const WRITE_DOWN: Duration = Duration::from_secs(30);

/// A fair queue of jobs with leases.
///
/// # Whose turn
///
/// A pool is one base model. Each node owns a lane; inside a lane each tenant has one first-in-first-out queue. Each
/// tenant has a pool-wide *virtual token counter* (VTC, arXiv 2401.00588): prompt tokens at the first delivery,
/// generated tokens times a price as they are reported, both divided by the job's priority. [`claim`](Self::claim)
/// serves the tenant with the lowest counter. A tenant that comes back is lifted to the lowest counter of those that
/// wait, so idling earns no credit. The queue is work-conserving: a claim comes back empty only if nothing that this
/// node may take waits.
///
/// A node takes from its own lane, from the lane of jobs without a preference, and from lanes whose node is lost. If
/// all these are empty it takes from lanes that are behind. Beyond what it has room for, a node takes a few jobs of
/// tenants of whom it holds none, by the same order: one tenant's long answers then delay nobody else's first.
///
/// # What happens when
///
/// - **A node crashes.** Its leases expire; each of its jobs waits again with the place that its age gives it, in the
///   lane without a preference, and the gateway hears [`Requeued`](crate::NoticeKind::Requeued). Its lane's waiting
///   jobs are everyone's as soon as its heartbeat lapses.
/// - **A node is cut off and comes back.** Its renewals and settlements are refused with
///   [`LeaseLost`](QueueError::LeaseLost), and its events are dropped by attempt number: it cannot do harm.
/// - **A node fails a job**, or its gateway takes one back from it. It waits in the lane of another live node, if there is one, so
///   that what keeps one node from it (no way to its gateway, none to the files of its adapters) does not use up its
///   deliveries there.
/// - **A job keeps failing.** After `max_deliveries` it goes to the dead letters and is settled as failed.
/// - **A job is delivered twice.** At-least-once means that this can happen, one attempt after the other and never two
///   live ones. Sampling depends on (seed, position) alone, so both attempts yield the same tokens, and the receiver
///   drops what it already has.
/// - **A client goes away.** The gateway cancels; a waiting job is never delivered, a running one's node is told.
///   Either is settled, so what was computed until then is counted.
/// - **A gateway crashes.** Its jobs run until the node finds that nobody reads their events. Those that have an account are then
///   over, and so are the waiting ones as soon as another gateway [asks](Self::next_orphaned), to whom its requests are given to
///   write down. A gateway that is only cut off from the queue keeps what runs.
/// - **The queue loses what it knew.** Leases are refused, and nodes stop. [`gateway_heartbeat`](Self::gateway_heartbeat) answers with
///   another [`Life`]; gateways then submit again what they hold, numbered after the attempts that there were, and order again
///   what they have ordered. What is known still has no effect.
/// - **The deadline passes.** A waiting job is dropped and settled; a running one is ended by its node.
/// - **The wall clock is set to another time.** Nothing happens, to whichever side and by however much.
/// - **A version is taken down.** Waiting jobs that use it are settled as taken down and never delivered, and so is
///   each that is submitted later or whose attempt comes back; running ones are ended by their nodes.
///
/// # Orders for nodes
///
/// [`order`](Self::order) is for all nodes of a pool. An order stands: a node that starts later, or was cut off, hears
/// of it too. Orders are numbered, and a node asks for those after the last one that it has carried out, so that none
/// is lost with an answer that did not arrive, and one may come twice. [`next_orders`](Self::next_orders) brings them
/// at once; the answer to each heartbeat says the number of the newest, so that a node whose waiting call is dead
/// notices that it has missed one. A number below what the node knows means that the queue has lost its orders and
/// counts anew; the node then begins at 0. A pool keeps [`ORDERS_KEPT`](crate::ORDERS_KEPT) orders.
///
/// # An end that is counted
///
/// Each job that was queued is settled once: the gateway that submitted it hears
/// [`Settled`](crate::NoticeKind::Settled) as the last notice of that job, however it ended. Where a node ended the
/// job, the notice has what that node said; only the live attempt can say it, so a lost attempt that comes back counts
/// nothing. Where no node can say it (the job never left the queue, its last node was lost, it became a dead letter)
/// the queue says it, with the tokens that were reported with the last renewal. Tokens that a lost attempt delivered
/// are in the count of the attempt that went on from them; tokens that it computed and nobody received are in no count.
/// A dead letter that is replayed has been settled and is not settled again. Notices wait for their gateway for
/// `remember_over`.
///
/// The settlements of a request whose jobs have an account are kept until somebody [acknowledges](Self::acknowledge) that the request is
/// written down: its gateway, as long as that lives, else another that was [given it](Self::next_orphaned). A request is given as a
/// whole, once none of its jobs is open, and to one gateway at a time. It may still be written down twice (an acknowledgement
/// that was lost, a writer that was slow, a gateway that comes back and finds its notices), so rows have the request's id as their
/// key, and the first to come counts. A pool keeps [`UNPOSTED_KEPT`](crate::UNPOSTED_KEPT) of them, and forgets the oldest beyond that.
///
/// # For implementers
///
/// No wall clock decides anything here. A job comes with the time that is left of it
/// ([`time_left`](souk_protocol::GenerateJob::time_left)) and is delivered with what is left then: at a redelivery too,
/// never with what it was submitted with. Leases, heartbeats and deadlines go by one clock that is never set. In one
/// process that is a monotonic clock. A remote store measures on its own side, in the step that it runs: it keeps a
/// moment of the store's monotonic clock (or a key's time to live, where the store counts that down on one), turns what
/// is left into such a moment when the job is submitted and back at each claim, and never compares it with a moment of
/// a gateway or a node. On the wire what is left is a duration; the time that a message is under way is not counted.
///
/// Each method is one atomic step over the keys of one pool: plain data in, plain data out. The methods with a
/// `timeout` are the only ones that wait. Dropping a waiting call loses nothing.
#[async_trait]
pub trait JobQueue: Send + Sync {
    /// Queues a job. Submitting an id that is known has no effect.
    ///
    /// # Errors
    /// [`QueueError::Full`] if a cap would be broken.
    async fn submit(&self, submission: Submission) -> Result<Submitted, QueueError>;

    /// Takes up to `max_jobs` jobs, then up to `max_newcomers` of tenants that have none at this node, each with a
    /// lease. Does not wait.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>, QueueError>;

    /// Waits until this claim would find work: true, or until `timeout`: false.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn wait(&self, claim: &Claim, timeout: Duration) -> Result<bool, QueueError>;

    /// The adapters of the next jobs that `node` would take, at most `max_jobs` of them, in the order of their turn,
    /// each once, with what the first of those jobs says to fetch it with: what a node can prepare for while it has no room. Lanes of others are left out, and nothing is
    /// promised.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn peek(&self, pool: PoolId, node: &NodeId, max_jobs: usize) -> Result<Vec<Fetchable>, QueueError>;

    /// Renews leases and charges what was generated. Returns the leases that are lost: their work must stop.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn renew(&self, pool: PoolId, progress: &[LeaseProgress]) -> Result<Vec<Lease>, QueueError>;

    /// Gives a lease back. `Over` settles the job.
    ///
    /// # Errors
    /// [`QueueError::LeaseLost`] if it is not the live one; the settlement then has no effect.
    async fn settle(&self, pool: PoolId, lease: &Lease, settlement: Settlement) -> Result<(), QueueError>;

    /// Ends a job that is no longer wanted. It is settled: at once where it waits, else as soon as its node has let go.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn cancel(&self, pool: PoolId, job: &JobId) -> Result<Cancelled, QueueError>;

    /// Waits for cancellations of jobs that this node runs. Each is returned once; empty after `timeout`.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn next_cancelled(&self, pool: PoolId, node: &NodeId, timeout: Duration) -> Result<Vec<Lease>, QueueError>;

    /// Hands in an order for the nodes of a pool. One that stands already has no effect.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn order(&self, pool: PoolId, order: NodeOrder) -> Result<(), QueueError>;

    /// Waits for orders with a number above `after`, and returns all that stand, oldest first; empty after `timeout`.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn next_orders(
        &self,
        pool: PoolId,
        after: OrderNumber,
        timeout: Duration,
    ) -> Result<Vec<NumberedOrder>, QueueError>;

    /// Waits for notices of jobs that this gateway submitted. Each is returned once; empty after `timeout`.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn next_notices(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        timeout: Duration,
    ) -> Result<Vec<Notice>, QueueError>;

    /// Hands in the tokens of the answer that the client already has, for a job that waits again. Returns whether the
    /// next delivery will carry them; false is harmless, since repeats are dropped by offset.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn resume(&self, pool: PoolId, job: &JobId, tokens: Vec<TokenId>) -> Result<bool, QueueError>;

    /// Takes a job from its node: the gateway that submitted it can read no more of this attempt. The job waits again at
    /// once, with `tokens` (what the client already has) as its prefix, and its next attempt fences this one off; the
    /// node is told as of a cancellation. It counts as a delivery, so that what brings nodes down ends among the dead
    /// letters, unless that node has retired: it was drained, and hands over what it runs. A job that was cancelled, is
    /// too late or was taken down is settled instead. If the job waits again already and nothing came after this attempt,
    /// this is [`resume`](Self::resume). False, without effect, if the attempt is not the last one or the job is over.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn take_back(
        &self,
        pool: PoolId,
        job: &JobId,
        attempt: u32,
        tokens: Vec<TokenId>,
    ) -> Result<bool, QueueError>;

    /// Says that a node lives and how it does. Returns the number of the newest order of its pool.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn heartbeat(&self, status: NodeStatus) -> Result<OrderNumber, QueueError>;

    /// Says that a node takes no more work: its lane is everyone's at once. Its leases stay valid.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn retire(&self, pool: PoolId, node: &NodeId) -> Result<(), QueueError>;

    /// The live nodes of a pool, by node id.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn lanes(&self, pool: PoolId) -> Result<Vec<LaneStatus>, QueueError>;

    /// Jobs that were given up, oldest first. An implementation keeps a bounded number and drops the oldest.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn dead_letters(&self, pool: PoolId) -> Result<Vec<DeadLetter>, QueueError>;

    /// Queues a dead letter again with a fresh count of deliveries and no deadline.
    ///
    /// # Errors
    /// [`QueueError::NotDead`] if there is none with this id.
    async fn replay(&self, pool: PoolId, job: &JobId) -> Result<(), QueueError>;

    /// Says that a gateway lives, and what it has delivered of answers since it said so last. It says so at once when it starts, and
    /// each second from then on; a submission says so, too. Like a node it is taken for lost after `heartbeat_timeout` of
    /// silence. What is said of a job that is over, or is not known, has no effect. Returns which life of the queue's data this is:
    /// one that differs from the last answer means that all that was said to the queue before has to be said again.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn gateway_heartbeat(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        delivered: &[Delivered],
    ) -> Result<Life, QueueError>;

    /// Waits for requests of gateways that are lost, and gives them to this one to write down; empty after `timeout`. What is
    /// not acknowledged within [`WRITE_DOWN`] is given again, to whoever asks. Jobs of lost gateways that wait are ended by it.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn next_orphaned(
        &self,
        pool: PoolId,
        gateway: &GatewayId,
        timeout: Duration,
    ) -> Result<Vec<Orphan>, QueueError>;

    /// Says that requests are written down, one's own or others': nobody is given them any more. Saying so twice, or of a request
    /// that is not known, has no effect.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn acknowledge(&self, pool: PoolId, requests: &[RequestId]) -> Result<(), QueueError>;

    /// Which of these requests have accounts and are not acknowledged: their jobs are not all over, or nobody has written them down.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn unposted(&self, pool: PoolId, requests: &[RequestId]) -> Result<Vec<RequestId>, QueueError>;

    /// Says which adapters a gateway's requests ask for most now, in the place of what it has said before;
    /// [`MOST_POPULAR_NAMED`](crate::MOST_POPULAR_NAMED) at most. It is forgotten after [`POPULAR_FOR`](crate::POPULAR_FOR), so
    /// whoever means it says it again before.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn say_popular(&self, pool: PoolId, gateway: &GatewayId, adapters: Vec<Popular>) -> Result<(), QueueError>;

    /// The adapters of a pool that are asked for most, as all gateways say together: at most `most`, the first of them first.
    /// It is a hint: what it names may have been taken down since.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn popular(&self, pool: PoolId, most: usize) -> Result<Vec<Fetchable>, QueueError>;

    /// Figures for metrics.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] only.
    async fn stats(&self, pool: PoolId) -> Result<PoolStats, QueueError>;
}
