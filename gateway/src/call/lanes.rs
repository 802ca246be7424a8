//! Which node should take a job.

use souk_protocol::{Digest, NodeId};
use souk_queue::LaneStatus;

/// A lane takes at most this many times its even share of the load before the next one is asked.
const LOAD_BOUND: f64 = 1.25;

/// Picks the lane for an adapter by rendezvous hashing with bounded load (arXiv 1608.01350): each adapter has its own
/// order of the nodes, so it stays warm on few of them and a lost node moves only its own adapters; a node that has
/// more than its share is passed over. `None` without nodes.
#[must_use]
pub(crate) fn choose<'a>(adapter: &Digest, lanes: &'a [LaneStatus]) -> Option<&'a NodeId> {
    let load = |lane: &LaneStatus| lane.node.load.running as usize + lane.queued;
    let total: usize = lanes.iter().map(load).sum();
    // The job itself counts, so that an idle pool has room.
    let bound = (LOAD_BOUND * (total + 1) as f64 / lanes.len().max(1) as f64).ceil() as usize;
    let with_room = lanes.iter().filter(|lane| load(lane) < bound);
    with_room.max_by_key(|lane| rank(adapter, &lane.node.node)).map(|lane| &lane.node.node)
}

/// A node's place in an adapter's order.
fn rank(adapter: &Digest, node: &NodeId) -> Digest {
    Digest::of(&[adapter.as_bytes().as_slice(), node.as_str().as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use souk_protocol::PoolId;
    use souk_queue::{NodeLoad, NodeStatus};

    use super::*;

    fn lane(name: usize, load: usize) -> LaneStatus {
        let load = NodeLoad { running: u32::try_from(load).unwrap(), free_slots: 8, ..NodeLoad::default() };
        let id = NodeId::from_stored(format!("node_{name}"));
        let node = NodeStatus { load, ..NodeStatus::new(id, PoolId(Digest::of(b"base"))) };
        LaneStatus { node, queued: 0 }
    }

    fn adapter(name: usize) -> Digest {
        Digest::of(name.to_string().as_bytes())
    }

    #[test]
    fn an_adapter_stays_where_it_is_when_another_node_leaves() {
        let lanes: Vec<_> = (0..5).map(|name| lane(name, 0)).collect();
        for name in 0..200 {
            let chosen = choose(&adapter(name), &lanes).unwrap();
            let without_another: Vec<_> = lanes
                .iter()
                .enumerate()
                .filter(|(at, lane)| lane.node.node == *chosen || *at != 0)
                .map(|(_, lane)| lane.clone())
                .collect();
            assert_eq!(choose(&adapter(name), &without_another), Some(chosen));
        }
    }

    #[test]
    fn adapters_spread_over_the_nodes() {
        let lanes: Vec<_> = (0..4).map(|name| lane(name, 0)).collect();
        for node in &lanes {
            let share = (0..400).filter(|&name| choose(&adapter(name), &lanes) == Some(&node.node.node)).count();
            assert!((60..140).contains(&share), "{share} of 400");
        }
    }

    proptest! {
        #[test]
        fn no_lane_goes_beyond_the_bound_and_some_lane_is_always_found(
            loads in proptest::collection::vec(0usize..50, 1..9), name in 0usize..1000,
        ) {
            let lanes: Vec<_> = loads.iter().enumerate().map(|(at, &load)| lane(at, load)).collect();
            let chosen = choose(&adapter(name), &lanes).expect("the mean is below the bound");
            let at = lanes.iter().position(|lane| lane.node.node == *chosen).unwrap();
            let total: usize = loads.iter().sum();
            let bound = (LOAD_BOUND * (total + 1) as f64 / loads.len() as f64).ceil() as usize;
            prop_assert!(loads[at] < bound);
        }
    }

    #[test]
    fn without_nodes_there_is_no_lane() {
        assert_eq!(choose(&adapter(1), &[]), None);
    }
}
