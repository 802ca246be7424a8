//! Who holds a job, and what happens when it lets go.

use std::collections::HashMap;

use souk_protocol::{JobFailure, Outcome};
use souk_queue::{QueueError, Settlement};
use tokio::time::Instant;

use crate::support::*;

pub(crate) async fn a_job_is_delivered_to_one_node_only(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    let delivery = claim_one(&queue, "n1").await;
    assert_eq!((delivery.lease.job.clone(), delivery.lease.attempt), (id, 1));
    nothing_to_claim(&queue, "n2").await;
    finish(&queue, &delivery, 5).await;
    nothing_to_claim(&queue, "n2").await;
}

pub(crate) async fn a_renewed_lease_lives_on(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    let delivery = claim_one(&queue, "n1").await;
    assert_eq!(delivery.lease_for, LEASE);
    for output_tokens in 0..6 {
        pass(&queue, LEASE / 2).await;
        assert!(renew(&queue, &delivery, output_tokens).await);
        nothing_to_claim(&queue, "n2").await;
    }
    finish(&queue, &delivery, 6).await;
}

pub(crate) async fn an_expired_lease_is_delivered_again_with_the_next_attempt(queue: Queue) {
    let id = submit(&queue, in_lane("n1", job("a", 10))).await;
    claim_one(&queue, "n1").await;
    // Nobody calls the queue meanwhile: the doorbell alone must notice.
    let asked = Instant::now();
    assert!(wait(&queue, "n2", SOON).await);
    assert!(asked.elapsed() < LEASE * 2, "{:?}", asked.elapsed());
    let again = claim_one(&queue, "n2").await;
    assert_eq!((again.lease.job.clone(), again.lease.attempt), (id.clone(), 2));
    assert_eq!(notices(&queue).await, [requeued(&id)]);
}

pub(crate) async fn a_stale_attempt_can_do_nothing(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    let stale = claim_one(&queue, "n1").await;
    pass(&queue, LEASE * 2).await;
    let live = claim_one(&queue, "n2").await;
    assert!(!renew(&queue, &stale, 3).await, "the renewal says that the lease is lost");
    for settlement in
        [over(&stale, Outcome::Stop, 9), Settlement::Retry { reason: "late".to_owned() }, Settlement::GiveBack]
    {
        assert!(is_lease_lost(&queue.settle(pool(), &stale.lease, settlement).await));
    }
    assert!(renew(&queue, &live, 3).await, "the live attempt is untouched");
    finish(&queue, &live, 5).await;
    assert!(is_lease_lost(&queue.settle(pool(), &live.lease, over(&live, Outcome::Stop, 5)).await));
}

pub(crate) async fn a_failed_attempt_is_tried_again_in_its_place(queue: Queue) {
    heartbeat(&queue, "n1").await;
    let first = submit(&queue, in_lane("n1", job("a", 10))).await;
    let second = submit(&queue, job("a", 10)).await;
    let delivery = claim_one(&queue, "n1").await;
    fail(&queue, &delivery).await;
    let order: Vec<_> = claim(&queue, "n2", 2).await.into_iter().map(|delivery| delivery.lease.job).collect();
    assert_eq!(order, [first, second], "it is as old as it was, and no more the lane's of the node that failed it");
}

pub(crate) async fn what_one_node_has_failed_is_another_live_nodes_first(queue: Queue) {
    for name in ["n1", "n2", "n3"] {
        heartbeat(&queue, name).await;
    }
    let id = submit(&queue, in_lane("n2", job("a", 10))).await;
    fail(&queue, &claim_one(&queue, "n2").await).await;
    nothing_to_claim(&queue, "n1").await;
    nothing_to_claim(&queue, "n2").await;
    let second = claim_one(&queue, "n3").await;
    assert!(queue.take_back(pool(), &id, second.lease.attempt, tokens(2)).await.unwrap());
    nothing_to_claim(&queue, "n2").await;
    nothing_to_claim(&queue, "n3").await;
    let third = claim_one(&queue, "n1").await;
    // What was not begun is everybody's.
    queue.settle(pool(), &third.lease, Settlement::GiveBack).await.unwrap();
    assert_eq!(claim_one(&queue, "n1").await.job.resume, tokens(2));
}

pub(crate) async fn the_gateway_can_hand_in_what_it_has_before_the_next_delivery(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    let first = claim_one(&queue, "n1").await;
    assert!(!queue.resume(pool(), &id, tokens(4)).await.unwrap(), "it runs");
    fail(&queue, &first).await;
    assert!(queue.resume(pool(), &id, tokens(4)).await.unwrap());
    assert!(queue.resume(pool(), &id, tokens(2)).await.unwrap(), "an older message comes late");
    assert_eq!(claim_one(&queue, "n2").await.job.resume, tokens(4));
}

pub(crate) async fn after_three_deliveries_the_job_is_a_dead_letter(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    fail(&queue, &claim_one(&queue, "n1").await).await;
    claim_one(&queue, "n1").await;
    pass(&queue, LEASE * 2).await;
    let third = claim_one(&queue, "n1").await;
    assert_eq!(third.lease.attempt, 3);
    fail(&queue, &third).await;
    nothing_to_claim(&queue, "n1").await;
    let letters = queue.dead_letters(pool()).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0].submission.job.id, letters[0].deliveries), (&id, 3));
    assert_eq!(letters[0].reason, "disk on fire");
    let failure = JobFailure::DeadLetter { attempts: 3, reason: "disk on fire".to_owned() };
    let settled = settled_by_queue(&id, 3, Outcome::Failed, (10, 0), failure);
    assert_eq!(notices(&queue).await.last(), Some(&settled));
}

pub(crate) async fn a_dead_letter_can_be_replayed(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    let unknown = queue.replay(pool(), &id).await;
    assert!(matches!(unknown, Err(QueueError::NotDead(job)) if job == id), "it is alive");
    for _ in 0..3 {
        fail(&queue, &claim_one(&queue, "n").await).await;
    }
    queue.replay(pool(), &id).await.unwrap();
    assert_eq!(queue.dead_letters(pool()).await.unwrap(), []);
    let delivery = claim_one(&queue, "n").await;
    assert_eq!((&delivery.lease.job, delivery.lease.attempt), (&id, 4), "attempts go on, so that old ones stay out");
    fail(&queue, &delivery).await;
    finish(&queue, &claim_one(&queue, "n").await, 1).await;
}

pub(crate) async fn what_is_given_back_does_not_count_as_a_delivery(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    for attempt in 1..=10 {
        let delivery = claim_one(&queue, "n").await;
        assert_eq!(delivery.lease.attempt, attempt);
        queue.settle(pool(), &delivery.lease, Settlement::GiveBack).await.unwrap();
    }
    finish(&queue, &claim_one(&queue, "n").await, 1).await;
}

pub(crate) async fn a_gateway_takes_back_what_it_can_read_no_more_of(queue: Queue) {
    let id = submit(&queue, in_lane("n1", job("a", 10))).await;
    assert!(!queue.take_back(pool(), &id, 1, tokens(1)).await.unwrap(), "no node has it");
    let first = claim_one(&queue, "n1").await;
    assert!(queue.take_back(pool(), &id, 1, tokens(4)).await.unwrap());
    assert!(queue.take_back(pool(), &id, 1, tokens(2)).await.unwrap(), "it waits again already");
    let told = queue.next_cancelled(pool(), &node("n1"), SOON).await.unwrap();
    assert_eq!(told, std::slice::from_ref(&first.lease), "its node is told");
    assert!(!renew(&queue, &first, 6).await);
    let second = claim_one(&queue, "n2").await;
    assert_eq!((second.lease.attempt, &second.job.resume), (2, &tokens(4)));
    assert!(is_lease_lost(&queue.settle(pool(), &first.lease, over(&first, Outcome::Stop, 9)).await));
    assert!(!queue.take_back(pool(), &id, 1, tokens(5)).await.unwrap(), "an older message comes late");
    assert!(renew(&queue, &second, 5).await);
    finish(&queue, &second, 6).await;
    assert!(!queue.take_back(pool(), &id, 2, tokens(6)).await.unwrap(), "it is over");
    assert_eq!(notices(&queue).await.last(), Some(&settled(&second, Outcome::Stop, 6)));
}

pub(crate) async fn what_a_gateway_takes_back_too_often_is_a_dead_letter(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    for attempt in 1..=3 {
        assert_eq!(claim_one(&queue, "n").await.lease.attempt, attempt);
        assert!(queue.take_back(pool(), &id, attempt, tokens(0)).await.unwrap());
    }
    nothing_to_claim(&queue, "n").await;
    let letters = queue.dead_letters(pool()).await.unwrap();
    assert_eq!(letters[0].reason, "its gateway could read no more of it");
}

pub(crate) async fn what_a_drained_node_hands_over_counts_as_no_delivery(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    for attempt in 1..=5 {
        heartbeat(&queue, "n").await;
        assert_eq!(claim_one(&queue, "n").await.lease.attempt, attempt);
        queue.retire(pool(), &node("n")).await.unwrap();
        assert!(queue.take_back(pool(), &id, attempt, tokens(attempt)).await.unwrap());
    }
    assert_eq!(claim_one(&queue, "n").await.job.resume, tokens(5));
}

pub(crate) async fn a_cancelled_job_that_is_taken_back_is_over(queue: Queue) {
    let id = submit(&queue, job("a", 10)).await;
    claim_one(&queue, "n").await;
    queue.cancel(pool(), &id).await.unwrap();
    assert!(queue.take_back(pool(), &id, 1, tokens(2)).await.unwrap());
    nothing_to_claim(&queue, "n").await;
    let settled = settled_by_queue(&id, 1, Outcome::CallerLeft, (10, 0), JobFailure::ShuttingDown);
    assert_eq!(notices(&queue).await.last(), Some(&settled));
}

pub(crate) async fn many_claimers_lose_nothing_and_repeat_nothing(queue: Queue) {
    let mut submitted = Vec::new();
    for number in 0..84 {
        submitted.push(submit(&queue, job(["a", "b", "c"][number % 3], 10)).await);
    }
    let claimers: Vec<_> = (0..6)
        .map(|number| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let (name, mut done) = (format!("n{number}"), Vec::new());
                loop {
                    let deliveries = claim(&queue, &name, 2).await;
                    if deliveries.is_empty() {
                        return done;
                    }
                    for delivery in deliveries {
                        tokio::task::yield_now().await;
                        finish(&queue, &delivery, 1).await;
                        done.push(delivery.lease.job);
                    }
                }
            })
        })
        .collect();
    let mut times = HashMap::new();
    for claimer in claimers {
        for id in claimer.await.unwrap() {
            *times.entry(id).or_insert(0) += 1;
        }
    }
    assert!(submitted.iter().all(|id| times.get(id) == Some(&1)) && times.len() == submitted.len());
}
