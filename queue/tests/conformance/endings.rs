//! Cancellation, deadlines, notices and doorbells.

use std::time::Duration;

use souk_protocol::{GatewayId, JobFailure, Outcome};
use souk_queue::{Cancelled, Settlement};
use tokio::time::Instant;

use crate::support::*;

pub(crate) async fn a_cancelled_job_is_never_delivered(queue: Queue) {
    let first = submit(&queue, job("a", 10)).await;
    let second = submit(&queue, job("a", 10)).await;
    assert_eq!(queue.cancel(pool(), &first).await.unwrap(), Cancelled::Queued);
    assert_eq!(queue.cancel(pool(), &first).await.unwrap(), Cancelled::Over);
    assert_eq!(claim_one(&queue, "n").await.lease.job, second);
    nothing_to_claim(&queue, "n").await;
}

pub(crate) async fn the_node_hears_of_a_cancellation_at_once(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    let delivery = claim_one(&queue, "n").await;
    let listener = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.next_cancelled(pool(), &node("n"), SOON).await.unwrap() })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    let asked = Instant::now();
    assert_eq!(queue.cancel(pool(), &delivery.lease.job).await.unwrap(), Cancelled::Running);
    assert_eq!(listener.await.unwrap(), std::slice::from_ref(&delivery.lease));
    promptly(&queue, asked);
    assert_eq!(queue.cancel(pool(), &delivery.lease.job).await.unwrap(), Cancelled::Running);
    let again = queue.next_cancelled(pool(), &node("n"), Duration::from_millis(20)).await.unwrap();
    assert_eq!(again, [], "each is told once");
    finish(&queue, &delivery, 3).await;
}

pub(crate) async fn a_cancelled_job_whose_node_is_lost_is_not_tried_again(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    let delivery = claim_one(&queue, "n1").await;
    queue.cancel(pool(), &delivery.lease.job).await.unwrap();
    pass(&queue, LEASE * 2).await;
    nothing_to_claim(&queue, "n2").await;
    assert!(is_lease_lost(&queue.settle(pool(), &delivery.lease, Settlement::GiveBack).await));
}

pub(crate) async fn a_job_past_its_deadline_is_dropped_and_reported(queue: Queue) {
    let late = submit(&queue, with_deadline(Duration::from_millis(100), job("a", 10))).await;
    let in_time = submit(&queue, with_deadline(Duration::from_secs(60), job("a", 10))).await;
    let asked = Instant::now();
    let notices = notices(&queue).await;
    assert!(asked.elapsed() < SOON / 2, "nobody claims meanwhile, and still it comes: {:?}", asked.elapsed());
    assert_eq!(notices, [settled_by_queue(&late, 0, Outcome::TimedOut, (10, 0), JobFailure::DeadlineExceeded)]);
    assert_eq!(claim_one(&queue, "n").await.lease.job, in_time);
    nothing_to_claim(&queue, "n").await;
}

pub(crate) async fn a_deadline_that_passes_during_a_lost_attempt_is_reported(queue: Queue) {
    let id = submit(&queue, with_deadline(LEASE / 2, job("a", 10))).await;
    claim_one(&queue, "n").await;
    let settled = settled_by_queue(&id, 1, Outcome::TimedOut, (10, 0), JobFailure::DeadlineExceeded);
    assert_eq!(notices(&queue).await, [settled]);
    nothing_to_claim(&queue, "n").await;
}

pub(crate) async fn each_delivery_says_what_is_left_of_the_job(queue: Queue) {
    let (given, waits) = (LEASE * 10, LEASE / 2);
    submit(&queue, with_deadline(given, job("a", 10))).await;
    let left = async || {
        let delivery = claim_one(&queue, "n").await;
        (delivery.job.time_left.expect("it has a deadline"), delivery)
    };
    pass(&queue, waits).await;
    let (first, delivery) = left().await;
    assert!(first <= given - waits && first > given - LEASE, "{first:?} of {given:?}");
    pass(&queue, waits).await;
    fail(&queue, &delivery).await;
    let (second, delivery) = left().await;
    assert!(
        second <= first - waits && second > first - LEASE,
        "{second:?} after {first:?}: not what it was submitted with"
    );
    finish(&queue, &delivery, 1).await;
    submit(&queue, job("a", 10)).await;
    assert_eq!(claim_one(&queue, "n").await.job.time_left, None);
}

pub(crate) async fn a_deadline_that_no_clock_can_hold_is_none(queue: Queue) {
    submit(&queue, with_deadline(Duration::MAX, job("a", 10))).await;
    assert!(claim_one(&queue, "n").await.job.time_left.is_none_or(|left| left > LEASE));
}

pub(crate) async fn a_notice_reaches_only_its_own_gateway(queue: Queue) {
    submit(&queue, with_deadline(Duration::from_millis(50), job("a", 10))).await;
    let other = GatewayId::from_stored("another gateway");
    assert_eq!(queue.next_notices(pool(), &other, Duration::from_millis(200)).await.unwrap(), []);
    assert_eq!(queue.next_notices(pool(), &gateway(), SOON).await.unwrap().len(), 1);
    assert_eq!(queue.next_notices(pool(), &gateway(), Duration::from_millis(20)).await.unwrap(), [], "told once");
}

pub(crate) async fn the_doorbell_rings_when_work_comes(queue: Queue) {
    let waiter = {
        let queue = queue.clone();
        tokio::spawn(async move { wait(&queue, "n", SOON).await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    let asked = Instant::now();
    submit(&queue, job("a", 10)).await;
    assert!(waiter.await.unwrap());
    promptly(&queue, asked);
    assert!(wait(&queue, "n", SOON).await, "it waits still: no need to wait");
}

pub(crate) async fn the_doorbell_stays_silent_for_a_lane_of_others(queue: Queue) {
    heartbeat(&queue, "n1").await;
    submit(&queue, in_lane("n1", job("a", 10))).await;
    assert!(!wait(&queue, "n2", STEAL_AFTER / 2).await);
    assert!(wait(&queue, "n2", SOON).await, "until the lane is behind");
}
