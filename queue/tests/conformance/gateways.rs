//! Settlements of gateways that are gone.

use std::time::Duration;

use bytes::Bytes;
use souk_protocol::{GatewayId, JobId, Outcome};
use souk_queue::{Delivery, NoticeKind, Orphan, Settled, Submission, WRITE_DOWN};

use crate::support::*;

const SHORT: Duration = Duration::from_millis(20);

fn with_account(mut submission: Submission) -> Submission {
    submission.account = Some(Bytes::from_static(b"whose it is"));
    submission
}

fn other(name: &str) -> GatewayId {
    GatewayId::from_stored(name)
}

async fn lives(queue: &Queue, gateway: &GatewayId) {
    queue.gateway_heartbeat(pool(), gateway).await.unwrap();
}

/// A job with an account that has ended.
async fn ended(queue: &Queue, output_tokens: u32) -> Delivery {
    submit(queue, with_account(job("a", 10))).await;
    let delivery = claim_one(queue, "n").await;
    finish(queue, &delivery, output_tokens).await;
    delivery
}

fn orphan(delivery: &Delivery, output_tokens: u32) -> Orphan {
    let settled = Settled {
        outcome: Outcome::Stop,
        usage: usage(delivery, output_tokens),
        attempts: delivery.lease.attempt,
        untold: None,
    };
    Orphan { job: delivery.lease.job.clone(), account: Bytes::from_static(b"whose it is"), settled }
}

/// What there is now for a gateway that lives.
async fn orphans(queue: &Queue, gateway: &GatewayId) -> Vec<Orphan> {
    lives(queue, gateway).await;
    queue.next_orphaned(pool(), gateway, Duration::ZERO).await.unwrap()
}

async fn acknowledge(queue: &Queue, job: &JobId) {
    queue.acknowledge(pool(), std::slice::from_ref(job)).await.unwrap();
}

pub(crate) async fn a_settlement_with_an_account_stays_until_it_is_acknowledged(queue: Queue) {
    lives(&queue, &gateway()).await;
    let (first, second) = (ended(&queue, 3).await, ended(&queue, 4).await);
    assert_eq!(notices(&queue).await.len(), 2);
    acknowledge(&queue, &first.lease.job).await;
    acknowledge(&queue, &first.lease.job).await;
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    // It took the notice of the second too, and may have died before it wrote it down.
    assert_eq!(orphans(&queue, &other("g2")).await, [orphan(&second, 4)]);
}

pub(crate) async fn a_lost_gateways_settlements_are_given_to_another_once(queue: Queue) {
    lives(&queue, &gateway()).await;
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

pub(crate) async fn a_gateway_that_comes_back_and_another_do_not_both_have_it(queue: Queue) {
    lives(&queue, &gateway()).await;
    let (first, second) = (ended(&queue, 3).await, ended(&queue, 4).await);
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    assert_eq!(orphans(&queue, &other("g2")).await, [orphan(&first, 3), orphan(&second, 4)]);
    acknowledge(&queue, &first.lease.job).await;
    lives(&queue, &gateway()).await;
    let late = queue.next_notices(pool(), &gateway(), SHORT).await.unwrap();
    assert_eq!(late, [], "both are another's, written down or not");
    let third = ended(&queue, 5).await;
    assert_eq!(notices(&queue).await, [settled(&third, Outcome::Stop, 5)], "it lives again");
    assert_eq!(orphans(&queue, &other("g2")).await, []);
}

pub(crate) async fn a_settlement_without_an_account_is_nobodys(queue: Queue) {
    submit(&queue, job("a", 10)).await;
    finish(&queue, &claim_one(&queue, "n").await, 3).await;
    assert_eq!(orphans(&queue, &other("g2")).await, []);
    assert_eq!(notices(&queue).await.len(), 1);
}

pub(crate) async fn a_live_gateway_keeps_what_is_its_own(queue: Queue) {
    lives(&queue, &gateway()).await;
    let delivery = ended(&queue, 3).await;
    for _ in 0..4 {
        pass(&queue, HEARTBEAT_TIMEOUT / 2).await;
        lives(&queue, &gateway()).await;
        assert_eq!(orphans(&queue, &other("g2")).await, []);
    }
    assert_eq!(notices(&queue).await, [settled(&delivery, Outcome::Stop, 3)]);
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
