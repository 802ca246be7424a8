//! What a node does when it is told to: take a version down, keep adapters pinned, drain.

use souk_protocol::{Fetchable, Outcome};
use souk_queue::{NodeOrder, OrderNumber, Settled};

use super::*;

impl Pool {
    async fn order(&self, order: NodeOrder) {
        self.queue.order(pool_id(), order).await.unwrap();
    }

    async fn take_down(&self, version: Digest) {
        self.order(NodeOrder::TakeDown(version)).await;
    }

    /// How a job ended, as its gateway hears it.
    async fn settled(&self, job: &JobId) -> Settled {
        loop {
            for notice in self.queue.next_notices(pool_id(), &self.gateway, SOON).await.unwrap() {
                match notice.kind {
                    NoticeKind::Settled(settled) if notice.job == *job => return settled,
                    _ => {}
                }
            }
        }
    }
}

impl TestNode {
    fn store(&self) -> &AdapterStore {
        &self.node.shared.adapters
    }

    fn num_files(&self) -> usize {
        self.store().stats().disk.unwrap().files
    }

    fn is_resident(&self, version: Digest) -> bool {
        self.store().stats().resident.iter().any(|adapter| adapter.digest == version)
    }
}

#[tokio::test]
async fn a_take_down_ends_running_answers_within_a_second_and_leaves_no_tier() {
    let pool = Pool::new();
    let node = pool.node(9, Duration::from_millis(5));
    let version = node.adapters[0];
    let mut running = pool.submit(job(&[1, 2], 900, &[version])).await;
    let mut with_both = pool.submit(job(&[1, 2], 900, &node.adapters)).await;
    let mut other = pool.submit(job(&[1, 2], 900, &node.adapters[1..])).await;
    for answer in [&mut running, &mut with_both, &mut other] {
        answer.tokens(3).await;
    }
    until("both are on disk", async || node.num_files() == 2).await;
    let asked = Instant::now();
    pool.take_down(version).await;
    for answer in [&mut running, &mut with_both] {
        assert_eq!(answer.end().await.1, JobEvent::Failed(JobFailure::TakenDown));
    }
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?} to the last token", asked.elapsed());
    until("no tier has it", async || !node.is_resident(version) && node.num_files() == 1).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?} to the last tier", asked.elapsed());
    let settled = pool.settled(&running.id).await;
    assert_eq!((settled.outcome, settled.untold), (Outcome::TakenDown, None));
    assert_eq!(settled.usage.completion_tokens as usize, running.tokens.len(), "what was delivered is counted");
    // Others go on.
    other.tokens(other.tokens.len() + 5).await;
    assert!(node.is_resident(node.adapters[1]));
}

#[tokio::test]
async fn jobs_of_a_version_that_is_taken_down_never_start() {
    let pool = Pool::new();
    let node = pool.node(0, Duration::from_millis(5));
    let version = node.adapters[0];
    let mut loading = pool.submit(job(&[1, 2], 3, &[version])).await;
    until("its load waits", async || node.source.num_fetches() == 1).await;
    let mut busy = Vec::new();
    for _ in 0..8 {
        busy.push(pool.submit(job(&[1], 900, &[])).await);
    }
    until("the node is full", async || node.node.shared.engine.stats().num_running == 4).await;
    let mut queued = pool.submit(job(&[1, 2], 3, &[version])).await;
    let asked = Instant::now();
    pool.take_down(version).await;
    assert_eq!(loading.end().await.1, JobEvent::Failed(JobFailure::TakenDown));
    let settled = pool.settled(&queued.id).await;
    assert_eq!((settled.outcome, settled.attempts), (Outcome::TakenDown, 0));
    assert_eq!(settled.untold, Some(JobFailure::TakenDown), "its gateway tells the client");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    // The load comes to nothing, and nothing is brought ahead of a request.
    node.source.gate.add_permits(9);
    node.store().prefetch(&version);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(queued.events.try_next().is_none() && !node.is_resident(version));
    assert_eq!((node.source.num_fetches(), node.num_files()), (1, 0));
}

#[tokio::test]
async fn a_node_whose_waiting_call_hears_nothing_carries_an_order_out_after_its_next_heartbeat() {
    let pool = Pool::new();
    let node = pool.node(9, Duration::from_millis(5));
    // Its call waits for what comes after an order of a queue that has lost its orders since.
    node.node.shared.orders.set_done(OrderNumber(1000));
    let version = node.adapters[0];
    let mut running = pool.submit(job(&[1, 2], 900, &[version])).await;
    running.tokens(3).await;
    let asked = Instant::now();
    pool.take_down(version).await;
    assert_eq!(running.end().await.1, JobEvent::Failed(JobFailure::TakenDown));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    until("it is gone", async || !node.is_resident(version)).await;
}

#[tokio::test]
async fn a_node_that_starts_later_keeps_to_the_orders_that_stand() {
    let pool = Pool::new();
    let first = pool.node(9, Duration::ZERO);
    let versions = first.adapters.clone();
    pool.take_down(versions[0]).await;
    until("the first knows", async || first.store().is_taken_down(&versions[0])).await;
    let second = pool.node(9, Duration::ZERO);
    until("the second knows", async || second.store().is_taken_down(&versions[0])).await;
    let refused = second.store().acquire(&versions[0]).await.unwrap_err();
    assert!(matches!(refused, crate::adapters::AdapterError::TakenDown), "{refused}");
    let mut answer = pool.submit(job(&[1], 3, &versions[1..])).await;
    assert_eq!(finished(&answer.end().await.1), FinishReason::Length);
}

#[tokio::test]
async fn pinned_adapters_stay_until_others_are_pinned_or_they_are_taken_down() {
    let pool = Pool::new();
    let node = pool.node(9, Duration::ZERO);
    let users = |version: Digest| {
        let resident = node.store().stats().resident;
        resident.iter().find(|adapter| adapter.digest == version).map(|adapter| adapter.users)
    };
    pool.order(NodeOrder::Pin(fetchable(&node.adapters))).await;
    until("both are held", async || node.adapters.iter().all(|version| users(*version) == Some(1))).await;
    pool.order(NodeOrder::Pin(fetchable(&node.adapters[1..]))).await;
    until("one is let go", async || users(node.adapters[0]) == Some(0)).await;
    pool.take_down(node.adapters[1]).await;
    until("the other is gone", async || !node.is_resident(node.adapters[1])).await;
}

#[tokio::test]
async fn a_node_that_is_ordered_to_drain_takes_no_more_and_lets_its_answers_end() {
    let pool = Pool::new();
    let first = pool.node(9, Duration::from_millis(5));
    let mut running = pool.submit(job(&[1], 40, &[])).await;
    running.tokens(2).await;
    pool.order(NodeOrder::Drain(NodeId::new())).await;
    pool.order(NodeOrder::Drain(first.node.id().clone())).await;
    tokio::time::timeout(SOON, first.node.draining()).await.unwrap();
    until("it has retired", async || pool.queue.lanes(pool_id()).await.unwrap().is_empty()).await;
    let mut next = pool.submit(job(&[1], 3, &[])).await;
    assert_eq!(finished(&running.end().await.1), FinishReason::Length);
    assert!(next.events.try_next().is_none());
    let _second = pool.node(9, Duration::ZERO);
    assert_eq!(finished(&next.end().await.1), FinishReason::Length);
}

fn fetchable(versions: &[Digest]) -> Vec<Fetchable> {
    versions.iter().map(|digest| Fetchable { digest: *digest, grant: None }).collect()
}
