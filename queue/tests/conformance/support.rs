//! Short words for the cases, and a queue with the clock of each implementation: in memory the test's own, which is paused; in
//! Redis that of the pool, which is moved. Times are long enough that nothing falls due while a case runs, and short enough that
//! those which only pass while somebody waits can really pass.

use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use souk_protocol::{Digest, GatewayId, JobFailure, JobId, NodeId, Outcome, PoolId, TokenId, Usage};
use souk_queue::{
    Claim, Delivery, JobQueue, LeaseProgress, MemoryQueue, NodeStatus, Notice, NoticeKind, Priority, QueueConfig,
    QueueError, RedisQueue, Settled, Settlement, Submission, Submitted,
};
use souk_redis::RedisSettings;
use souk_testkit::redis::Redis;
use tokio::time::Instant;

/// A queue with the clock that it goes by.
#[derive(Clone)]
pub(crate) struct Queue {
    queue: Arc<dyn JobQueue>,
    server: Option<Arc<Server>>,
    began: Instant,
}

/// A server, and a connection to move its clocks by.
pub(crate) struct Server {
    pub(crate) redis: Mutex<Redis>,
    connection: Mutex<redis::Connection>,
}

/// Adds to what the clocks of all pools have counted. Returns what the first had counted at its last step.
const MOVE_CLOCKS: &str = r"
local counted = 0
for place, key in ipairs(redis.call('KEYS', 'souk:*:state')) do
    local state = redis.call('GET', key)
    local now = struct.unpack('<d', state)
    if place == 1 then counted = now end
    redis.call('SET', key, struct.pack('<d', now + ARGV[1]) .. string.sub(state, 9), 'KEEPTTL')
end
return counted";

impl Server {
    pub(crate) fn new(redis: Redis) -> Self {
        let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        Self { redis: Mutex::new(redis), connection: Mutex::new(connection) }
    }

    /// Moves its clocks on, and says what the first had counted.
    pub(crate) fn move_clocks(&self, time: Duration) -> Duration {
        let mut connection = self.connection.lock().unwrap();
        let millis = u64::try_from(time.as_millis()).unwrap();
        let counted: u64 = redis::cmd("EVAL").arg(MOVE_CLOCKS).arg(0).arg(millis).query(&mut *connection).unwrap();
        Duration::from_millis(counted)
    }
}

impl Deref for Queue {
    type Target = dyn JobQueue;

    fn deref(&self) -> &Self::Target {
        &*self.queue
    }
}

impl Queue {
    pub(crate) fn in_memory(config: QueueConfig) -> Self {
        Self { queue: Arc::new(MemoryQueue::new(config)), server: None, began: Instant::now() }
    }

    pub(crate) fn in_redis(config: QueueConfig) -> Self {
        Self::of_server(Arc::new(Server::new(Redis::that_forgets())), config)
    }

    /// Another process's way to the same server.
    pub(crate) fn of_server(server: Arc<Server>, config: QueueConfig) -> Self {
        let settings = settings(server.redis.lock().unwrap().url());
        let queue = Arc::new(RedisQueue::new(&settings, config).unwrap());
        Self { queue, server: Some(server), began: Instant::now() }
    }

    /// Its server, if it has one.
    #[cfg(has_redis)]
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// What the clock had counted at the last step.
    pub(crate) fn now(&self) -> Duration {
        self.server.as_ref().map_or_else(|| self.began.elapsed(), |server| server.move_clocks(Duration::ZERO))
    }
}

pub(crate) fn settings(url: String) -> RedisSettings {
    let (connect_timeout, response_timeout) = (Duration::from_secs(5), Duration::from_secs(5));
    RedisSettings { connect_timeout, response_timeout, ..RedisSettings::at(url) }
}

/// Asserts that what was asked for came at once: in no time on a clock that stands still, else before anything else could have
/// brought it.
pub(crate) fn promptly(queue: &Queue, asked: Instant) {
    let bound = if queue.server.is_some() { SOON / 2 } else { Duration::from_millis(20) };
    assert!(asked.elapsed() < bound, "{:?}", asked.elapsed());
}

pub(crate) const LEASE: Duration = Duration::from_millis(3000);
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(2000);
pub(crate) const STEAL_AFTER: Duration = Duration::from_millis(600);
/// Long enough for what is to happen, short for a test that waits in vain.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn config() -> QueueConfig {
    QueueConfig {
        max_queued_per_tenant: 60,
        max_queued: 100,
        max_in_flight_per_tenant: Some(70),
        lease: LEASE,
        heartbeat_timeout: HEARTBEAT_TIMEOUT,
        steal_after: STEAL_AFTER,
        max_deliveries: 3,
        remember_over: Duration::from_secs(50),
        output_token_cost: 2.0,
    }
}

pub(crate) fn pool() -> PoolId {
    PoolId(Digest::of(b"base model"))
}

pub(crate) fn node(name: &str) -> NodeId {
    NodeId::from_stored(name)
}

pub(crate) fn gateway() -> GatewayId {
    GatewayId::from_stored("gateway")
}

/// A job of this tenant with a prompt of so many tokens, in no lane.
pub(crate) fn job(tenant: &str, prompt_tokens: usize) -> Submission {
    let job = souk_testkit::job::job(tenant, pool(), prompt_tokens);
    Submission { job, lane: None, reply_to: gateway().into(), priority: Priority::ORDINARY, account: None, attempts: 0 }
}

pub(crate) fn in_lane(lane: &str, mut submission: Submission) -> Submission {
    submission.lane = Some(node(lane));
    submission
}

pub(crate) fn with_deadline(after: Duration, mut submission: Submission) -> Submission {
    submission.job.time_left = Some(after);
    submission
}

/// Submits and returns the id.
pub(crate) async fn submit(queue: &Queue, submission: Submission) -> JobId {
    let id = submission.job.id.clone();
    assert_eq!(queue.submit(submission).await.unwrap(), Submitted::Queued);
    id
}

pub(crate) async fn claim(queue: &Queue, by: &str, max_jobs: usize) -> Vec<Delivery> {
    queue.claim(wish(by, max_jobs, 0)).await.unwrap()
}

pub(crate) fn wish(by: &str, max_jobs: usize, max_newcomers: usize) -> Claim {
    Claim { pool: pool(), node: node(by), max_jobs, max_newcomers }
}

/// Waits until a claim of one job would find it.
pub(crate) async fn wait(queue: &Queue, by: &str, timeout: Duration) -> bool {
    queue.wait(&wish(by, 1, 0), timeout).await.unwrap()
}

/// Claims the one job that must be there.
pub(crate) async fn claim_one(queue: &Queue, by: &str) -> Delivery {
    claim(queue, by, 1).await.pop().expect("a job waits")
}

pub(crate) async fn nothing_to_claim(queue: &Queue, by: &str) {
    assert_eq!(claim(queue, by, 1).await, []);
}

/// What a node says that read the prompt and computed so many tokens.
pub(crate) fn usage(delivery: &Delivery, output_tokens: u32) -> Usage {
    let prompt_tokens = u32::try_from(delivery.job.prompt.len()).unwrap();
    Usage { prompt_tokens, cached_tokens: 1, completion_tokens: output_tokens, prefill_began: true }
}

pub(crate) fn over(delivery: &Delivery, outcome: Outcome, output_tokens: u32) -> Settlement {
    Settlement::Over { outcome, usage: usage(delivery, output_tokens) }
}

pub(crate) async fn finish(queue: &Queue, delivery: &Delivery, output_tokens: u32) {
    end(queue, delivery, Outcome::Stop, output_tokens).await;
}

pub(crate) async fn end(queue: &Queue, delivery: &Delivery, outcome: Outcome, output_tokens: u32) {
    queue.settle(pool(), &delivery.lease, over(delivery, outcome, output_tokens)).await.unwrap();
}

/// The notices of one gateway that are there, or come soon.
pub(crate) async fn notices(queue: &Queue) -> Vec<Notice> {
    queue.next_notices(pool(), &gateway(), SOON).await.unwrap()
}

/// The notice of a job that its node ended in the first attempt.
pub(crate) fn settled(delivery: &Delivery, outcome: Outcome, output_tokens: u32) -> Notice {
    let attempts = delivery.lease.attempt;
    let settled = Settled { outcome, usage: usage(delivery, output_tokens), attempts, untold: None };
    Notice { job: delivery.lease.job.clone(), kind: NoticeKind::Settled(settled) }
}

/// The notice of a job that the queue ended, with what was reported of it.
pub(crate) fn settled_by_queue(
    job: &JobId,
    attempts: u32,
    outcome: Outcome,
    (prompt_tokens, reported): (u32, u32),
    untold: JobFailure,
) -> Notice {
    let prefill_began = reported > 0;
    let usage = Usage { prompt_tokens, cached_tokens: 0, completion_tokens: reported, prefill_began };
    let settled = Settled { outcome, usage, attempts, untold: Some(untold) };
    Notice { job: job.clone(), kind: NoticeKind::Settled(settled) }
}

pub(crate) fn requeued(job: &JobId) -> Notice {
    Notice { job: job.clone(), kind: NoticeKind::Requeued }
}

pub(crate) async fn fail(queue: &Queue, delivery: &Delivery) {
    let reason = "disk on fire".to_owned();
    queue.settle(pool(), &delivery.lease, Settlement::Retry { reason }).await.unwrap();
}

pub(crate) async fn renew(queue: &Queue, delivery: &Delivery, output_tokens: u32) -> bool {
    let progress = LeaseProgress { lease: delivery.lease.clone(), output_tokens };
    queue.renew(pool(), &[progress]).await.unwrap().is_empty()
}

pub(crate) async fn heartbeat(queue: &Queue, name: &str) {
    queue.heartbeat(status(name)).await.unwrap();
}

pub(crate) fn status(name: &str) -> NodeStatus {
    NodeStatus::new(node(name), pool())
}

/// Lets time pass, for the queue.
pub(crate) async fn pass(queue: &Queue, time: Duration) {
    match &queue.server {
        Some(server) => _ = server.move_clocks(time),
        None => tokio::time::sleep(time).await,
    }
}

pub(crate) fn is_lease_lost<T: std::fmt::Debug>(result: &Result<T, QueueError>) -> bool {
    matches!(result, Err(QueueError::LeaseLost { .. }))
}

pub(crate) fn tokens(count: TokenId) -> Vec<TokenId> {
    (0..count).collect()
}
