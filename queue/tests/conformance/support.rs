//! Short words for the cases. Times are short enough to really pass on a remote store; on the in-memory queue they pass
//! at once, since the test's clock is paused.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use souk_protocol::{
    Digest, GatewayId, GenerateJob, JobId, NodeId, PoolId, RequestId, SamplingParams, TenantId, TokenId,
};
use souk_queue::{
    Claim, Delivery, JobQueue, NodeStatus, Progress, QueueConfig, QueueError, Settlement, Submission, Submitted, Weight,
};

pub(crate) type Queue = Arc<dyn JobQueue>;

pub(crate) const LEASE: Duration = Duration::from_millis(300);
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(200);
pub(crate) const STEAL_AFTER: Duration = Duration::from_millis(60);
/// Long enough for what is to happen, short for a test that waits in vain.
pub(crate) const SOON: Duration = Duration::from_secs(2);

pub(crate) fn config() -> QueueConfig {
    QueueConfig {
        max_queued_per_tenant: 60,
        max_queued: 100,
        max_in_flight_per_tenant: Some(70),
        lease: LEASE,
        heartbeat_timeout: HEARTBEAT_TIMEOUT,
        steal_after: STEAL_AFTER,
        max_deliveries: 3,
        remember_over: Duration::from_secs(5),
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
    let job = GenerateJob {
        id: JobId { request: RequestId::new(), index: 0 },
        tenant: TenantId::from_stored(tenant),
        pool: pool(),
        prompt: vec![1; prompt_tokens],
        resume: Vec::new(),
        adapters: Vec::new(),
        sampling: SamplingParams::greedy(),
        constraint: None,
        max_tokens: 100,
        eos_tokens: Vec::new(),
        logprobs: None,
        prompt_logprobs: None,
        deadline_unix_ms: None,
    };
    Submission { job, lane: None, reply_to: gateway(), weight: Weight::ORDINARY }
}

pub(crate) fn in_lane(lane: &str, mut submission: Submission) -> Submission {
    submission.lane = Some(node(lane));
    submission
}

pub(crate) fn with_deadline(after: Duration, mut submission: Submission) -> Submission {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    submission.job.deadline_unix_ms = Some(u64::try_from((now + after).as_millis()).unwrap());
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

pub(crate) async fn finish(queue: &Queue, delivery: &Delivery, output_tokens: u32) {
    queue.settle(pool(), &delivery.lease, Settlement::Over { output_tokens }).await.unwrap();
}

pub(crate) async fn fail(queue: &Queue, delivery: &Delivery) {
    let reason = "disk on fire".to_owned();
    queue.settle(pool(), &delivery.lease, Settlement::Retry { reason }).await.unwrap();
}

pub(crate) async fn renew(queue: &Queue, delivery: &Delivery, output_tokens: u32) -> bool {
    let progress = Progress { lease: delivery.lease.clone(), output_tokens };
    queue.renew(pool(), &[progress]).await.unwrap().is_empty()
}

pub(crate) async fn heartbeat(queue: &Queue, name: &str) {
    let status = NodeStatus { node: node(name), pool: pool(), free_slots: 3, running: 1, resident: vec![] };
    queue.heartbeat(status).await.unwrap();
}

pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

pub(crate) fn is_lease_lost<T: std::fmt::Debug>(result: &Result<T, QueueError>) -> bool {
    matches!(result, Err(QueueError::LeaseLost { .. }))
}

pub(crate) fn tokens(count: TokenId) -> Vec<TokenId> {
    (0..count).collect()
}
