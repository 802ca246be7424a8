//! Every job that was queued is settled to its gateway, once, with what was computed.

use std::time::Duration;

use souk_protocol::{JobFailure, Outcome};
use souk_queue::{NoticeKind, QueueError, Settlement};

use crate::support::*;

const SHORT: Duration = Duration::from_millis(20);

/// No notice comes for a while.
async fn no_more(queue: &Queue) {
    assert_eq!(queue.next_notices(pool(), &gateway(), SHORT).await.unwrap(), []);
}

pub(crate) async fn what_a_node_says_reaches_the_gateway_once(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    submit(&queue, job("a", 10)).await;
    let (first, second) = (claim_one(&queue, "n").await, claim_one(&queue, "n").await);
    end(&queue, &second, Outcome::Length, 7).await;
    assert_eq!(notices(&queue).await, [settled(&second, Outcome::Length, 7)]);
    end(&queue, &first, Outcome::Stop, 3).await;
    assert_eq!(notices(&queue).await, [settled(&first, Outcome::Stop, 3)]);
    no_more(&queue).await;
}

pub(crate) async fn a_job_that_is_cancelled_while_it_runs_is_settled_by_its_node(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    let delivery = claim_one(&queue, "n").await;
    queue.cancel(pool(), &delivery.lease.job).await.unwrap();
    no_more(&queue).await;
    end(&queue, &delivery, Outcome::CallerLeft, 4).await;
    assert_eq!(notices(&queue).await, [settled(&delivery, Outcome::CallerLeft, 4)]);
    queue.cancel(pool(), &delivery.lease.job).await.unwrap();
    no_more(&queue).await;
}

pub(crate) async fn a_job_that_is_cancelled_while_it_waits_is_settled_with_nothing(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    queue.cancel(pool(), &id).await.unwrap();
    let settled = settled_by_queue(&id, 0, Outcome::CallerLeft, (10, 0), JobFailure::ShuttingDown);
    assert_eq!(notices(&queue).await, [settled]);
    queue.cancel(pool(), &id).await.unwrap();
    no_more(&queue).await;
}

pub(crate) async fn a_job_that_a_node_ends_at_its_deadline_is_settled_with_what_it_computed(queue: Queue) {
    submit(&queue, with_deadline(LEASE / 2, job("a", 10))).await;
    let delivery = claim_one(&queue, "n").await;
    pass(&queue, LEASE * 2 / 3).await;
    end(&queue, &delivery, Outcome::Deadline, 5).await;
    assert_eq!(notices(&queue).await, [settled(&delivery, Outcome::Deadline, 5)]);
    pass(&queue, LEASE).await;
    no_more(&queue).await;
}

pub(crate) async fn a_job_that_no_node_took_in_time_is_settled_with_nothing(queue: Queue) {
    let id = submit(&queue, with_deadline(SHORT * 3, job("a", 10))).await;
    let settled = settled_by_queue(&id, 0, Outcome::TimedOut, (10, 0), JobFailure::DeadlineExceeded);
    assert_eq!(notices(&queue).await, [settled]);
    no_more(&queue).await;
}

pub(crate) async fn only_the_live_attempt_is_counted(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    let lost = claim_one(&queue, "n1").await;
    pass(&queue, LEASE * 2).await;
    assert_eq!(notices(&queue).await, [requeued(&id)]);
    let live = claim_one(&queue, "n2").await;
    assert!(is_lease_lost(&queue.settle(pool(), &lost.lease, over(&lost, Outcome::Length, 90)).await));
    no_more(&queue).await;
    end(&queue, &live, Outcome::Stop, 6).await;
    assert_eq!(notices(&queue).await, [settled(&live, Outcome::Stop, 6)]);
    assert!(is_lease_lost(&queue.settle(pool(), &lost.lease, over(&lost, Outcome::Length, 90)).await));
    no_more(&queue).await;
}

pub(crate) async fn a_lost_node_is_counted_with_what_it_reported(queue: Queue) {
    let id = submit(&queue, with_deadline(LEASE, job("a", 10))).await;
    let lost = claim_one(&queue, "n").await;
    pass(&queue, LEASE / 2).await;
    assert!(renew(&queue, &lost, 8).await);
    pass(&queue, LEASE * 2).await;
    let settled = settled_by_queue(&id, 1, Outcome::Deadline, (10, 8), JobFailure::DeadlineExceeded);
    assert_eq!(notices(&queue).await, [settled]);
}

pub(crate) async fn a_cancelled_job_whose_node_is_lost_is_settled(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    let lost = claim_one(&queue, "n").await;
    assert!(renew(&queue, &lost, 2).await);
    queue.cancel(pool(), &id).await.unwrap();
    pass(&queue, LEASE * 2).await;
    let settled = settled_by_queue(&id, 1, Outcome::CallerLeft, (10, 2), JobFailure::ShuttingDown);
    assert_eq!(notices(&queue).await, [settled]);
    no_more(&queue).await;
}

pub(crate) async fn a_dead_letter_is_settled_and_its_replay_is_not(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    for _ in 0..3 {
        fail(&queue, &claim_one(&queue, "n").await).await;
    }
    let failure = JobFailure::DeadLetter { attempts: 3, reason: "disk on fire".to_owned() };
    let settled = settled_by_queue(&id, 3, Outcome::Failed, (10, 0), failure);
    assert_eq!(notices(&queue).await, [requeued(&id), requeued(&id), settled]);
    queue.replay(pool(), &id).await.unwrap();
    finish(&queue, &claim_one(&queue, "n").await, 4).await;
    no_more(&queue).await;
}

pub(crate) async fn a_refused_job_is_not_settled(queue: Queue) {
    for _ in 0..60 {
        submit(&queue, job("a", 10)).await;
    }
    assert!(matches!(queue.submit(job("a", 10)).await, Err(QueueError::Full(_))));
    no_more(&queue).await;
    let delivery = claim_one(&queue, "n").await;
    queue.settle(pool(), &delivery.lease, Settlement::GiveBack).await.unwrap();
    let back = notices(&queue).await;
    assert!(matches!(back.as_slice(), [notice] if notice.kind == NoticeKind::Requeued), "{back:?}");
}
