//! What is left behind by gateways that are gone, and what they say while they live.

use std::time::Duration;

use bytes::Bytes;
use souk_protocol::{GatewayId, JobFailure, JobId, Outcome, RequestId};
use souk_queue::{Cancelled, Delivered, Delivery, NoticeKind, Orphan, OrphanJob, Settled, Submission, WRITE_DOWN};

use crate::support::*;

const SHORT: Duration = Duration::from_millis(20);

pub(crate) fn with_account(mut submission: Submission) -> Submission {
    submission.account = Some(Bytes::from_static(b"whose it is"));
    submission
}

fn other(name: &str) -> GatewayId {
    GatewayId::from_stored(name)
}

async fn lives(queue: &Queue, gateway: &GatewayId) {
    queue.gateway_heartbeat(pool(), gateway, &[]).await.unwrap();
}

/// A job with an account that has ended.
async fn ended(queue: &Queue, output_tokens: u32) -> Delivery {
    submit(queue, with_account(job("a", 10))).await;
    let delivery = claim_one(queue, "n").await;
    finish(queue, &delivery, output_tokens).await;
    delivery
}

fn orphaned_job(delivery: &Delivery, output_tokens: u32) -> OrphanJob {
    let settled = Settled {
        outcome: Outcome::Stop,
        usage: usage(delivery, output_tokens),
        attempts: delivery.lease.attempt,
        untold: None,
    };
    OrphanJob { index: delivery.lease.job.index, settled, delivered_tokens: 0 }
}

fn orphan_of(request: &RequestId, jobs: Vec<OrphanJob>) -> Orphan {
    Orphan { request: request.clone(), account: Bytes::from_static(b"whose it is"), jobs }
}

fn orphan(delivery: &Delivery, output_tokens: u32) -> Orphan {
    orphan_of(&delivery.lease.job.request, vec![orphaned_job(delivery, output_tokens)])
}

/// What there is now for a gateway that lives.
async fn orphans(queue: &Queue, gateway: &GatewayId) -> Vec<Orphan> {
    lives(queue, gateway).await;
    queue.next_orphaned(pool(), gateway, Duration::ZERO).await.unwrap()
}

async fn acknowledge(queue: &Queue, job: &JobId) {
    queue.acknowledge(pool(), std::slice::from_ref(&job.request)).await.unwrap();
}

pub(crate) async fn a_settlement_with_an_account_stays_until_it_is_acknowledged(queue: Queue) {
    let (first, second) = (ended(&queue, 3).await, ended(&queue, 4).await);
    assert_eq!(notices(&queue).await.len(), 2);
    let both = [&first, &second].map(|delivery| delivery.lease.job.request.clone());
    assert_eq!(queue.unposted(pool(), &both).await.unwrap(), both);
    acknowledge(&queue, &first.lease.job).await;
    acknowledge(&queue, &first.lease.job).await;
    assert_eq!(queue.unposted(pool(), &both).await.unwrap(), both[1..]);
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    // It took the notice of the second too, and may have died before it wrote it down.
    assert_eq!(orphans(&queue, &other("g2")).await, [orphan(&second, 4)]);
    acknowledge(&queue, &second.lease.job).await;
    assert_eq!(queue.unposted(pool(), &both).await.unwrap(), []);
}

pub(crate) async fn a_lost_gateways_settlements_are_given_to_another_once(queue: Queue) {
    let delivery = ended(&queue, 5).await;
    let listener = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.next_orphaned(pool(), &other("g2"), SOON).await.unwrap() })
    };
    tokio::time::sleep(SHORT).await;
    lives(&queue, &other("g2")).await;
    // Nobody says anything of the first, and the other hears of it all the same.
    assert_eq!(listener.await.unwrap(), [orphan(&delivery, 5)]);
    lives(&queue, &other("g2")).await;
    assert_eq!(orphans(&queue, &other("g3")).await, []);
    acknowledge(&queue, &delivery.lease.job).await;
    pass(&queue, WRITE_DOWN + HEARTBEAT_TIMEOUT).await;
    assert_eq!(orphans(&queue, &other("g3")).await, []);
}

pub(crate) async fn what_is_not_acknowledged_is_given_again(queue: Queue) {
    let delivery = ended(&queue, 5).await;
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    assert_eq!(orphans(&queue, &other("g2")).await, [orphan(&delivery, 5)]);
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    assert_eq!(orphans(&queue, &other("g3")).await, [orphan(&delivery, 5)], "the second is gone as well");
    assert_eq!(orphans(&queue, &other("g3")).await, []);
    pass(&queue, WRITE_DOWN).await;
    assert_eq!(orphans(&queue, &other("g3")).await, [orphan(&delivery, 5)], "it may have lost the answer");
    acknowledge(&queue, &delivery.lease.job).await;
    pass(&queue, WRITE_DOWN).await;
    assert_eq!(orphans(&queue, &other("g3")).await, []);
}

pub(crate) async fn a_gateway_that_comes_back_hears_how_its_jobs_ended(queue: Queue) {
    let delivery = ended(&queue, 3).await;
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    assert_eq!(orphans(&queue, &other("g2")).await, [orphan(&delivery, 3)]);
    lives(&queue, &gateway()).await;
    assert_eq!(notices(&queue).await, [settled(&delivery, Outcome::Stop, 3)], "somebody may wait for the answer there");
    // What it has written down is nobody's any more, whoever was given it.
    acknowledge(&queue, &delivery.lease.job).await;
    pass(&queue, WRITE_DOWN).await;
    assert_eq!(orphans(&queue, &other("g3")).await, []);
}

pub(crate) async fn a_settlement_without_an_account_is_nobodys(queue: Queue) {
    let submission = job("a", 10);
    let request = submission.job.id.request.clone();
    submit(&queue, submission).await;
    assert_eq!(queue.unposted(pool(), &[request]).await.unwrap(), []);
    finish(&queue, &claim_one(&queue, "n").await, 3).await;
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    assert_eq!(orphans(&queue, &other("g2")).await, []);
    assert_eq!(notices(&queue).await.len(), 1);
}

pub(crate) async fn a_live_gateway_keeps_what_is_its_own(queue: Queue) {
    let delivery = ended(&queue, 3).await;
    for _ in 0..4 {
        pass(&queue, HEARTBEAT_TIMEOUT / 2).await;
        lives(&queue, &gateway()).await;
        assert_eq!(orphans(&queue, &other("g2")).await, []);
    }
    assert_eq!(notices(&queue).await, [settled(&delivery, Outcome::Stop, 3)]);
}

pub(crate) async fn a_gateway_that_submits_lives(queue: Queue) {
    submit(&queue, with_account(job("a", 10))).await;
    assert_eq!(orphans(&queue, &other("g2")).await, []);
    assert_eq!(claim(&queue, "n", 1).await.len(), 1, "what it has asked for stands");
}

/// Three jobs of one request.
fn three_of_one() -> [Submission; 3] {
    let first = with_account(job("a", 10));
    [0, 1, 2].map(|index| {
        let mut submission = first.clone();
        submission.job.id.index = index;
        submission
    })
}

pub(crate) async fn the_jobs_of_a_request_are_given_together_when_none_is_open(queue: Queue) {
    let [first, second, third] = three_of_one();
    let request = submit(&queue, first).await.request;
    submit(&queue, second).await;
    let (one, two) = (claim_one(&queue, "n").await, claim_one(&queue, "n").await);
    finish(&queue, &two, 4).await;
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    assert_eq!(orphans(&queue, &other("g2")).await, [], "one runs");
    finish(&queue, &one, 3).await;
    let jobs = vec![orphaned_job(&one, 3), orphaned_job(&two, 4)];
    assert_eq!(orphans(&queue, &other("g2")).await, [orphan_of(&request, jobs.clone())]);
    assert_eq!(orphans(&queue, &other("g3")).await, []);
    // Its gateway was paused and goes on: what was given before is given again with the rest.
    submit(&queue, third).await;
    pass(&queue, WRITE_DOWN).await;
    lives(&queue, &gateway()).await;
    assert_eq!(orphans(&queue, &other("g3")).await, [], "it is open again, and its own gateway's");
    let three = claim_one(&queue, "n").await;
    finish(&queue, &three, 5).await;
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    let jobs = [jobs, vec![orphaned_job(&three, 5)]].concat();
    assert_eq!(orphans(&queue, &other("g3")).await, [orphan_of(&request, jobs)]);
}

pub(crate) async fn what_a_lost_gateway_asked_for_is_not_tried_again(queue: Queue) {
    let [runs, fails, waits] = three_of_one();
    let request = submit(&queue, runs).await.request;
    submit(&queue, fails).await;
    let (running, failing) = (claim_one(&queue, "n").await, claim_one(&queue, "n").await);
    submit(&queue, waits).await;
    let delivered = Delivered { job: failing.lease.job.clone(), tokens: 6 };
    queue.gateway_heartbeat(pool(), &gateway(), &[delivered]).await.unwrap();
    assert!(renew(&queue, &failing, 9).await && renew(&queue, &running, 1).await);
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    fail(&queue, &failing).await;
    assert_eq!(orphans(&queue, &other("g2")).await, [], "one runs, since its gateway may be there for its node");
    nothing_to_claim(&queue, "n").await;
    finish(&queue, &running, 4).await;
    let left = |index: u32, attempts: u32, reported: u32, delivered_tokens: u32| {
        let id = JobId { request: request.clone(), index };
        let told = settled_by_queue(&id, attempts, Outcome::CallerLeft, (10, reported), JobFailure::ShuttingDown);
        let NoticeKind::Settled(settled) = told.kind else { panic!("{told:?}") };
        OrphanJob { index, settled, delivered_tokens }
    };
    let jobs = vec![orphaned_job(&running, 4), left(1, 1, 9, 6), left(2, 0, 0, 0)];
    assert_eq!(orphans(&queue, &other("g2")).await, [orphan_of(&request, jobs)]);
}

pub(crate) async fn what_is_said_of_jobs_that_are_over_or_unknown_changes_nothing(queue: Queue) {
    let delivery = ended(&queue, 5).await;
    let unknown = JobId { index: 7, ..delivery.lease.job.clone() };
    let said = [unknown, delivery.lease.job.clone()].map(|job| Delivered { job, tokens: 2 });
    queue.gateway_heartbeat(pool(), &gateway(), &said).await.unwrap();
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    assert_eq!(orphans(&queue, &other("g2")).await, [orphan(&delivery, 5)]);
}

pub(crate) async fn a_queue_that_has_lost_nothing_is_in_the_same_life(queue: Queue) {
    let first = queue.gateway_heartbeat(pool(), &gateway(), &[]).await.unwrap();
    let id = submit(&queue, with_account(job("a", 10))).await;
    assert_eq!(queue.cancel(pool(), &id).await.unwrap(), Cancelled::Queued);
    pass(&queue, HEARTBEAT_TIMEOUT * 2).await;
    for name in ["gateway", "g2"] {
        assert_eq!(queue.gateway_heartbeat(pool(), &other(name), &[]).await.unwrap(), first);
    }
}

pub(crate) async fn a_job_that_the_queue_has_lost_goes_on_after_its_attempts(queue: Queue) {
    let mut submission = job("a", 10);
    (submission.attempts, submission.job.resume) = (4, tokens(7));
    submit(&queue, submission).await;
    let delivery = claim_one(&queue, "n").await;
    assert_eq!((delivery.lease.attempt, &delivery.job.resume), (5, &tokens(7)));
    fail(&queue, &delivery).await;
    let again = claim_one(&queue, "n").await;
    assert_eq!(again.lease.attempt, 6);
    finish(&queue, &again, 9).await;
    let notices = notices(&queue).await;
    assert!(matches!(&notices[1].kind, NoticeKind::Settled(settled) if settled.attempts == 6), "{notices:?}");
}
