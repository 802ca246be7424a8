//! Lanes, and what a node may take from those of others.

use souk_protocol::Digest;
use souk_queue::{AdapterTier, LaneStats, LaneStatus, NodeCapacity, NodeLimits, NodeLoad, NodeStatus, ResidentAdapter};

use crate::support::*;

pub(crate) async fn a_live_nodes_lane_is_its_own_until_it_is_behind(queue: Queue) {
    heartbeat(&queue, "n1").await;
    let id = submit(&queue, in_lane("n1", job("a", 10))).await;
    nothing_to_claim(&queue, "n2").await;
    pass(&queue, STEAL_AFTER).await;
    assert_eq!(claim_one(&queue, "n2").await.lease.job, id);
}

pub(crate) async fn a_lost_nodes_lane_is_everyones(queue: Queue) {
    heartbeat(&queue, "n1").await;
    pass(&queue, HEARTBEAT_TIMEOUT).await;
    let id = submit(&queue, in_lane("n1", job("a", 10))).await;
    assert_eq!(claim_one(&queue, "n2").await.lease.job, id);
}

pub(crate) async fn a_retired_nodes_lane_is_everyones_at_once(queue: Queue) {
    heartbeat(&queue, "n1").await;
    let id = submit(&queue, in_lane("n1", job("a", 10))).await;
    nothing_to_claim(&queue, "n2").await;
    queue.retire(pool(), &node("n1")).await.unwrap();
    assert_eq!(claim_one(&queue, "n2").await.lease.job, id);
}

pub(crate) async fn a_busy_node_takes_from_a_lost_lane_by_turn(queue: Queue) {
    // The busy node never runs dry, and still the lost lane's tenant gets its share.
    for _ in 0..20 {
        submit(&queue, in_lane("n2", job("a", 10))).await;
    }
    submit(&queue, in_lane("lost", job("b", 10))).await;
    let next = claim(&queue, "n2", 2).await;
    assert!(next.iter().any(|delivery| delivery.job.tenant.as_str() == "b"));
}

pub(crate) async fn a_job_without_a_lane_goes_to_whoever_comes_first(queue: Queue) {
    heartbeat(&queue, "n1").await;
    let id = submit(&queue, job("a", 10)).await;
    assert_eq!(claim_one(&queue, "n2").await.lease.job, id);
}

pub(crate) async fn live_lanes_are_listed_with_what_their_nodes_say(queue: Queue) {
    let status = |name: &str| NodeStatus {
        capacity: NodeCapacity { places: 8, kv_blocks: 512, adapter_bytes: 3 << 30 },
        limits: NodeLimits { context_tokens: 8192, max_rank: 64 },
        load: NodeLoad { running: 2, free_slots: 7, free_kv_blocks: 300, adapter_bytes_in_use: 1 << 20 },
        resident: vec![ResidentAdapter { digest: Digest::of(name.as_bytes()), tier: AdapterTier::Host }],
        ..NodeStatus::new(node(name), pool())
    };
    queue.heartbeat(status("n1")).await.unwrap();
    pass(&queue, HEARTBEAT_TIMEOUT / 2).await;
    queue.heartbeat(status("n2")).await.unwrap();
    submit(&queue, in_lane("n2", job("a", 10))).await;
    let both = [LaneStatus { node: status("n1"), queued: 0 }, LaneStatus { node: status("n2"), queued: 1 }];
    assert_eq!(queue.lanes(pool()).await.unwrap(), both);
    pass(&queue, HEARTBEAT_TIMEOUT * 3 / 4).await;
    assert_eq!(queue.lanes(pool()).await.unwrap(), both[1..], "the first was silent for too long");
}

pub(crate) async fn statistics_count_what_there_is(queue: Queue) {
    heartbeat(&queue, "n1").await;
    submit(&queue, in_lane("n1", job("a", 10))).await;
    pass(&queue, STEAL_AFTER / 2).await;
    submit(&queue, in_lane("n1", job("a", 10))).await;
    submit(&queue, job("b", 10)).await;
    claim_one(&queue, "n2").await;
    let stats = queue.stats(pool()).await.unwrap();
    assert_eq!((stats.queued, stats.running, stats.dead_letters), (2, 1, 0));
    let [LaneStats { lane, queued: 2, oldest: Some(oldest), live: true }] = stats.lanes.as_slice() else {
        panic!("{stats:?}")
    };
    assert_eq!(*lane, Some(node("n1")));
    assert!(*oldest >= STEAL_AFTER / 2, "{oldest:?}");
}
