//! Which nodes live, and figures of the pool.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use souk_protocol::NodeId;
use tokio::time::Instant;

use super::pool::{Lane, Node, Phase, Pool};
use crate::nodes::{LaneStatus, NodeStatus};
use crate::words::{LaneStats, OrderNumber, PoolStats};

/// How long it is remembered that a node has retired.
const RETIRED_KEPT: Duration = Duration::from_secs(3600);

impl Pool {
    pub(super) fn heartbeat(&mut self, status: NodeStatus, now: Instant) -> OrderNumber {
        self.retired.remove(&status.node);
        self.nodes.insert(status.node.clone(), Node { status, seen: now });
        self.orders.last()
    }

    pub(super) fn retire(&mut self, node: &NodeId, now: Instant) {
        self.nodes.remove(node);
        // As long as it may hold something: what runs longer than this is rare, and then counts as a delivery.
        self.retired.retain(|_, since| now.duration_since(*since) < RETIRED_KEPT);
        self.retired.insert(node.clone(), now);
        self.orders.forget(node);
        self.rings.work = true;
    }

    pub(super) fn is_live(&self, node: &NodeId, now: Instant) -> bool {
        self.nodes.get(node).is_some_and(|node| now.duration_since(node.seen) < self.config.heartbeat_timeout)
    }

    pub(super) fn lanes(&self, now: Instant) -> Vec<LaneStatus> {
        let live = self.nodes.iter().filter(|(node, _)| self.is_live(node, now));
        live.map(|(id, node)| LaneStatus {
            node: node.status.clone(),
            queued: self.lanes.get(&Some(id.clone())).map_or(0, queued_in),
        })
        .collect()
    }

    pub(super) fn stats(&self, now: Instant) -> PoolStats {
        let live = self.nodes.keys().filter(|node| self.is_live(node, now)).map(|node| Some(node.clone()));
        let names: BTreeSet<_> = self.lanes.keys().cloned().chain(live).collect();
        let stats_of = |lane: Option<NodeId>| LaneStats {
            queued: self.lanes.get(&lane).map_or(0, queued_in),
            oldest: self.lanes.get(&lane).and_then(|lane| self.waiting_since(lane)).map(|since| now - since),
            live: lane.as_ref().is_some_and(|node| self.is_live(node, now)),
            lane,
        };
        PoolStats {
            queued: usize::try_from(self.places.used()).unwrap_or(usize::MAX),
            running: self.running.values().sum(),
            dead_letters: self.dead.len(),
            lanes: names.into_iter().map(stats_of).collect(),
        }
    }

    /// Since when the longest-waiting job of a lane has waited.
    pub(super) fn waiting_since(&self, lane: &Lane) -> Option<Instant> {
        let heads = lane.values().filter_map(|queue| queue.first_key_value());
        heads
            .filter_map(|(_, id)| match self.jobs.get(id)?.phase {
                Phase::Queued { since, .. } => Some(since),
                Phase::Running { .. } | Phase::Over { .. } => None,
            })
            .min()
    }

    /// The next moment at which time alone changes what a waiting call would see.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let due = self.due.first().map(|(due, _)| *due);
        let behind = self.lanes.values().filter_map(|lane| self.waiting_since(lane));
        let behind = behind.map(|since| since + self.config.steal_after);
        let lapses = self.nodes.values().map(|node| node.seen + self.config.heartbeat_timeout);
        due.into_iter()
            .chain(behind)
            .chain(lapses)
            .chain(self.unposted.next_change(self.config.heartbeat_timeout))
            .filter(|change| *change > now)
            .min()
    }
}

fn queued_in(lane: &Lane) -> usize {
    lane.values().map(BTreeMap::len).sum()
}
