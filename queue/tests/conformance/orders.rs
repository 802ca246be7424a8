//! Orders for nodes, and what a take-down does to jobs.

use std::time::Duration;

use souk_protocol::{AdapterUse, Digest, Fetchable, JobFailure, Outcome};
use souk_queue::{NodeOrder, NumberedOrder, ORDERS_KEPT, OrderNumber, Settlement, Submission};
use tokio::time::Instant;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(20);

fn version(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn take_down(name: &str) -> NodeOrder {
    NodeOrder::TakeDown(version(name))
}

async fn order(queue: &Queue, order: NodeOrder) {
    queue.order(pool(), order).await.unwrap();
}

async fn orders_after(queue: &Queue, after: OrderNumber) -> Vec<NumberedOrder> {
    queue.next_orders(pool(), after, SHORT).await.unwrap()
}

/// All that stand, without their numbers.
async fn standing(queue: &Queue) -> Vec<NodeOrder> {
    let all = orders_after(queue, OrderNumber::default()).await;
    assert!(all.is_sorted_by(|a, b| a.number < b.number), "each has a number of its own: {all:?}");
    all.into_iter().map(|numbered| numbered.order).collect()
}

async fn newest(queue: &Queue) -> OrderNumber {
    queue.heartbeat(status("n")).await.unwrap()
}

/// A job that uses these versions.
fn job_with(versions: &[&str]) -> Submission {
    let mut submission = job("a", 10);
    let uses = versions.iter().map(|name| AdapterUse { digest: version(name), weight: 1.0, grant: None });
    submission.job.adapters = uses.collect();
    submission
}

pub(crate) async fn an_order_reaches_those_that_wait_at_once(queue: Queue) {
    let listeners: Vec<_> = (0..2)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.next_orders(pool(), OrderNumber::default(), SOON).await.unwrap() })
        })
        .collect();
    tokio::time::sleep(SHORT).await;
    let asked = Instant::now();
    order(&queue, take_down("bad")).await;
    for listener in listeners {
        let heard = listener.await.unwrap();
        assert_eq!(heard.iter().map(|numbered| &numbered.order).collect::<Vec<_>>(), [&take_down("bad")]);
    }
    promptly(&queue, asked);
}

pub(crate) async fn a_node_hears_what_stands_after_the_last_that_it_carried_out(queue: Queue) {
    order(&queue, take_down("first")).await;
    order(&queue, take_down("second")).await;
    // One that starts later hears of both, and again until it says that it has carried one out.
    assert_eq!(standing(&queue).await, [take_down("first"), take_down("second")]);
    let all = orders_after(&queue, OrderNumber::default()).await;
    assert_eq!(orders_after(&queue, all[0].number).await, all[1..]);
    assert_eq!(orders_after(&queue, all[1].number).await, []);
}

pub(crate) async fn a_heartbeat_says_which_order_is_the_newest(queue: Queue) {
    assert_eq!(newest(&queue).await, OrderNumber::default());
    order(&queue, take_down("first")).await;
    order(&queue, take_down("second")).await;
    let last = orders_after(&queue, OrderNumber::default()).await.pop().unwrap();
    assert_eq!(newest(&queue).await, last.number);
}

pub(crate) async fn a_call_that_is_dropped_loses_no_order(queue: Queue) {
    let call = queue.next_orders(pool(), OrderNumber::default(), SOON);
    assert!(tokio::time::timeout(SHORT, call).await.is_err());
    order(&queue, take_down("bad")).await;
    assert_eq!(standing(&queue).await, [take_down("bad")]);
}

pub(crate) async fn an_order_that_stands_is_given_once(queue: Queue) {
    order(&queue, take_down("bad")).await;
    let last = newest(&queue).await;
    order(&queue, take_down("bad")).await;
    assert_eq!((standing(&queue).await, newest(&queue).await), (vec![take_down("bad")], last));
}

pub(crate) async fn only_the_newest_pins_stand(queue: Queue) {
    let (one, two) = (pin(&["one"]), pin(&["one", "two"]));
    order(&queue, one.clone()).await;
    order(&queue, take_down("bad")).await;
    order(&queue, two.clone()).await;
    order(&queue, two.clone()).await;
    assert_eq!(standing(&queue).await, [take_down("bad"), two]);
    order(&queue, one.clone()).await;
    assert_eq!(standing(&queue).await, [take_down("bad"), one]);
}

pub(crate) async fn an_order_to_drain_stands_until_its_node_retires(queue: Queue) {
    order(&queue, NodeOrder::Drain(node("n1"))).await;
    order(&queue, NodeOrder::Drain(node("n2"))).await;
    queue.retire(pool(), &node("n1")).await.unwrap();
    assert_eq!(standing(&queue).await, [NodeOrder::Drain(node("n2"))]);
}

pub(crate) async fn beyond_the_bound_the_oldest_order_is_forgotten(queue: Queue) {
    for number in 0..=ORDERS_KEPT {
        order(&queue, take_down(&number.to_string())).await;
    }
    let standing = standing(&queue).await;
    assert_eq!((standing.len(), &standing[0]), (ORDERS_KEPT, &take_down("1")));
    submit(&queue, job_with(&["1"])).await;
    nothing_to_claim(&queue, "n").await;
    submit(&queue, job_with(&["0"])).await;
    claim_one(&queue, "n").await;
}

pub(crate) async fn waiting_jobs_of_a_version_that_is_taken_down_are_settled_and_never_delivered(queue: Queue) {
    let bad = [submit(&queue, job_with(&["bad"])).await, submit(&queue, job_with(&["good", "bad"])).await];
    let good = submit(&queue, job_with(&["good"])).await;
    order(&queue, take_down("bad")).await;
    let mut notices = notices(&queue).await;
    notices.sort_by(|a, b| a.job.cmp(&b.job));
    let mut expected = bad.map(|id| settled_by_queue(&id, 0, Outcome::TakenDown, (10, 0), JobFailure::TakenDown));
    expected.sort_by(|a, b| a.job.cmp(&b.job));
    assert_eq!(notices, expected);
    let next = queue.peek(pool(), &node("n"), 9).await.unwrap();
    assert_eq!(next, [Fetchable { digest: version("good"), grant: None }]);
    assert_eq!(claim_one(&queue, "n").await.lease.job, good);
    nothing_to_claim(&queue, "n").await;
}

pub(crate) async fn a_job_of_a_version_that_was_taken_down_is_settled_when_it_is_submitted(queue: Queue) {
    order(&queue, take_down("bad")).await;
    // Its gateway had looked the version up before.
    let id = submit(&queue, job_with(&["bad"])).await;
    let settled = settled_by_queue(&id, 0, Outcome::TakenDown, (10, 0), JobFailure::TakenDown);
    assert_eq!(notices(&queue).await, [settled]);
    nothing_to_claim(&queue, "n").await;
}

pub(crate) async fn a_running_job_of_a_version_that_is_taken_down_is_its_nodes_to_end(queue: Queue) {
    submit(&queue, job_with(&["bad"])).await;
    let delivery = claim_one(&queue, "n").await;
    order(&queue, take_down("bad")).await;
    assert!(renew(&queue, &delivery, 3).await, "the lease lasts");
    end(&queue, &delivery, Outcome::TakenDown, 4).await;
    assert_eq!(notices(&queue).await, [settled(&delivery, Outcome::TakenDown, 4)]);
}

pub(crate) async fn a_job_of_a_version_that_was_taken_down_is_not_tried_again(queue: Queue) {
    for settlement in [Some(Settlement::GiveBack), Some(Settlement::Retry { reason: "no".to_owned() }), None] {
        let name = format!("{settlement:?}");
        let id = submit(&queue, job_with(&[&name])).await;
        let delivery = claim_one(&queue, "n").await;
        renew(&queue, &delivery, 3).await;
        order(&queue, take_down(&name)).await;
        match settlement {
            Some(settlement) => queue.settle(pool(), &delivery.lease, settlement).await.unwrap(),
            None => pass(&queue, LEASE * 2).await,
        }
        let settled = settled_by_queue(&id, 1, Outcome::TakenDown, (10, 3), JobFailure::TakenDown);
        assert_eq!(notices(&queue).await, [settled], "{name}");
        nothing_to_claim(&queue, "n").await;
    }
}

fn pin(names: &[&str]) -> NodeOrder {
    NodeOrder::Pin(names.iter().map(|name| Fetchable { digest: version(name), grant: None }).collect())
}
