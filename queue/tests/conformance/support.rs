//! Short words for the cases. Times are short enough to really pass on a remote store; on the in-memory queue they pass
//! at once, since the test's clock is paused.

use std::sync::Arc;
use std::time::Duration;

use souk_protocol::{Digest, GatewayId, JobFailure, JobId, NodeId, Outcome, PoolId, TokenId, Usage};
use souk_queue::{
    Claim, Delivery, JobQueue, LeaseProgress, NodeStatus, Notice, NoticeKind, Priority, QueueConfig, QueueError,
    Settled, Settlement, Submission, Submitted,
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
    let job = souk_testkit::job::job(tenant, pool(), prompt_tokens);
    Submission { job, lane: None, reply_to: gateway(), priority: Priority::ORDINARY }
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

pub(crate) async fn pass(duration: Duration) {
    tokio::time::sleep(duration).await;
}

pub(crate) fn is_lease_lost<T: std::fmt::Debug>(result: &Result<T, QueueError>) -> bool {
    matches!(result, Err(QueueError::LeaseLost { .. }))
}

pub(crate) fn tokens(count: TokenId) -> Vec<TokenId> {
    (0..count).collect()
}
