//! What holds of every router, whatever nodes and requests do.

#![expect(clippy::unwrap_used, reason = "a test fails where what it set up is not there")]

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use souk_protocol::{Digest, NodeId, PoolId};
use souk_queue::{AdapterTier, LaneStatus, NodeCapacity, NodeLimits, NodeLoad, NodeStatus, ResidentAdapter};
use souk_routing::{Job, Router, RoutingSettings, Why};

fn node(name: usize) -> NodeId {
    NodeId::from_stored(format!("node_{name}"))
}

fn adapter(name: usize) -> Digest {
    Digest::of(name.to_string().as_bytes())
}

fn lane(name: usize, places: u32, running: u32, resident: &[usize]) -> LaneStatus {
    let resident = resident.iter().map(|name| ResidentAdapter { digest: adapter(*name), tier: AdapterTier::Device });
    let status = NodeStatus {
        capacity: NodeCapacity { places, kv_blocks: 100, adapter_bytes: 1 << 20 },
        load: NodeLoad { running, free_kv_blocks: 100, ..NodeLoad::default() },
        resident: resident.collect(),
        ..NodeStatus::new(node(name), PoolId(Digest::of(b"base")))
    };
    LaneStatus { node: status, queued: 0 }
}

fn lanes(num: usize) -> Vec<LaneStatus> {
    (0..num).map(|name| lane(name, 8, 0, &[])).collect()
}

fn router(lanes: Vec<LaneStatus>, now: Instant) -> Router {
    let mut router = Router::new(RoutingSettings::default(), now);
    assert_eq!(router.refresh(lanes, now), []);
    router
}

/// Where one job of an adapter goes on a router that has seen none yet.
fn first_choice(lanes: Vec<LaneStatus>, name: usize) -> NodeId {
    let now = Instant::now();
    router(lanes, now).choose(Job { adapter: Some(&adapter(name)), jobs: 1 }, now).unwrap().node
}

#[test]
fn a_lost_node_moves_only_its_own_adapters() {
    let all = lanes(7);
    let mut moved = HashSet::new();
    for name in 0..500 {
        let (before, after) = (first_choice(all.clone(), name), first_choice(all[1..].to_vec(), name));
        if before == node(0) {
            moved.insert(after);
        } else {
            assert_eq!(before, after);
        }
    }
    assert_eq!(moved.len(), 6, "what it had goes to all others");
}

#[test]
fn a_node_that_joins_takes_nothing_that_is_warm_elsewhere() {
    let home: HashMap<usize, NodeId> = (0..300).map(|name| (name, first_choice(lanes(6), name))).collect();
    let warm = |at: usize| (0..300).filter(|name| home[name] == node(at)).collect::<Vec<_>>();
    let mut with_new: Vec<_> = (0..6).map(|at| lane(at, 8, 0, &warm(at))).collect();
    with_new.push(lane(6, 8, 0, &[]));
    assert!((0..300).all(|name| first_choice(with_new.clone(), name) == home[&name]));
    // Once nobody has it any more it goes where it belongs.
    with_new.iter_mut().for_each(|lane| lane.node.resident.clear());
    let num_new = (0..300).filter(|name| first_choice(with_new.clone(), *name) == node(6)).count();
    assert!((20..70).contains(&num_new), "{num_new} of 300, of which a seventh are 43");
}

#[test]
fn two_gateways_with_one_view_choose_the_same() {
    let now = Instant::now();
    let view: Vec<_> = (0..20).map(|at| lane(at, 4 + at as u32 % 5, at as u32 % 3, &[at, at + 1, at + 7])).collect();
    let (mut one, mut other) = (router(view.clone(), now), router(view.into_iter().rev().collect(), now));
    for name in (0..40).cycle().take(200) {
        let job = Job { adapter: Some(&adapter(name)), jobs: 1 };
        assert_eq!(one.choose(job, now), other.choose(job, now));
    }
}

#[test]
fn the_replica_that_has_the_adapter_comes_first_until_it_is_much_fuller() {
    let now = Instant::now();
    let name = (0..).find(|name| first_choice(lanes(2), *name) == node(0)).unwrap();
    let chosen = |first: u32, second: u32| {
        let view = vec![lane(0, 16, first, &[]), lane(1, 16, second, &[name])];
        let choice = router(view, now).choose(Job { adapter: Some(&adapter(name)), jobs: 1 }, now).unwrap();
        (choice.node, choice.why, choice.found)
    };
    assert_eq!(chosen(0, 0), (node(1), Why::Neighbour, Some(AdapterTier::Device)));
    assert_eq!(chosen(0, 4), (node(0), Why::Replica, None), "waiting for a load is shorter");
}

#[test]
fn a_node_of_another_version_is_told_of_once_and_gets_nothing() {
    let now = Instant::now();
    let mut view = lanes(2);
    view[0].node.protocol = 7;
    let mut router = Router::new(RoutingSettings::default(), now);
    let told = router.refresh(view.clone(), now);
    assert_eq!((told.len(), &told[0].node, told[0].protocol), (1, &node(0), 7));
    assert_eq!(router.refresh(view, now), []);
    assert!(
        (0..50).all(|name| {
            router.choose(Job { adapter: Some(&adapter(name)), jobs: 1 }, now).unwrap().node == node(1)
        })
    );
}

#[test]
fn without_lanes_and_without_an_adapter_there_is_no_choice() {
    let now = Instant::now();
    let mut router = router(Vec::new(), now);
    assert_eq!(router.choose(Job { adapter: Some(&adapter(1)), jobs: 1 }, now), None);
    router.refresh(lanes(3), now);
    assert_eq!(router.choose(Job { adapter: None, jobs: 1 }, now), None);
}

#[test]
fn a_pool_promises_what_its_smallest_node_takes() {
    let now = Instant::now();
    let with = |context_tokens, max_rank| LaneStatus {
        node: NodeStatus { limits: NodeLimits { context_tokens, max_rank }, ..lane(0, 8, 0, &[]).node },
        queued: 0,
    };
    let nobody_says = router(vec![with(0, 0)], now);
    assert_eq!((nobody_says.context_tokens(), nobody_says.max_rank()), (None, None));
    let three = router(vec![with(8192, 64), with(0, 0), with(4096, 256)], now);
    assert_eq!((three.context_tokens(), three.max_rank()), (Some(4096), Some(64)));
}

/// Runs jobs of one adapter at a steady pace for a while, all nodes together having `load` jobs. Returns the sizes that its set had.
fn sizes(router: &mut Router, from: Instant, seconds: u64, load: impl Fn(u64) -> u32) -> Vec<usize> {
    let mut sizes = Vec::new();
    for second in 0..seconds {
        let now = from + Duration::from_secs(second);
        // Spread to the last job: twenty nodes of a job each are not the same load as twenty of none.
        let of_lane = |at: usize| load(second) / 20 + u32::from(at < load(second) as usize % 20);
        router.refresh((0..20).map(|at| lane(at, 8, of_lane(at), &[])).collect(), now);
        for _ in 0..20 {
            let choice = router.choose(Job { adapter: Some(&adapter(1)), jobs: 1 }, now).unwrap();
            router.ended(&choice.node);
        }
        let size = router.replicas(&adapter(1));
        if sizes.last() != Some(&size) {
            sizes.push(size);
        }
    }
    sizes
}

#[test]
fn a_set_grows_with_its_load_at_once_and_shrinks_later_and_in_steps() {
    let begin = Instant::now();
    let mut router = router(lanes(20), begin);
    let grown = sizes(&mut router, begin, 120, |_| 40);
    assert!(grown.is_sorted(), "{grown:?}");
    assert_eq!(*grown.last().unwrap(), 10, "40 jobs are ten times half of 8 places");
    let later = begin + Duration::from_secs(120);
    let shrunk = sizes(&mut router, later, 20, |_| 0);
    assert_eq!(shrunk, [10], "not at once");
    let shrunk = sizes(&mut router, later + Duration::from_secs(20), 400, |_| 0);
    assert!(shrunk.iter().rev().is_sorted(), "{shrunk:?}");
    assert_eq!(*shrunk.last().unwrap(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_lane_goes_beyond_its_bound_and_some_lane_is_always_found(
        nodes in proptest::collection::vec((1u32..40, 0u32..60, any::<bool>()), 1..12),
        names in proptest::collection::vec((0usize..30, 1u32..5, any::<bool>()), 1..200),
    ) {
        let now = Instant::now();
        let warm = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let view = nodes.iter().enumerate().map(|(at, &(places, running, is_warm))| {
            lane(at, places, running, if is_warm { &warm } else { &[] })
        });
        let mut router = router(view.collect(), now);
        let mut sent = Vec::new();
        for (name, jobs, ends) in names {
            let rooms: HashMap<_, _> = (0..nodes.len()).map(|at| (node(at), router.room_of(&node(at)).unwrap())).collect();
            let choice = router.choose(Job { adapter: Some(&adapter(name)), jobs }, now);
            let choice = choice.expect("the bounds sum to more than the load");
            if jobs == 1 {
                let (load, bound) = rooms[&choice.node];
                prop_assert!(load < bound, "{} has {load} of {bound}", choice.node);
            }
            sent.extend((0..jobs).map(|_| choice.node.clone()));
            if ends {
                router.ended(&sent.swap_remove(0));
            }
        }
        for ended in &sent {
            router.ended(ended);
        }
    }

    #[test]
    fn a_load_that_wavers_around_an_edge_does_not_make_a_set_flap(
        level in 1u32..9, waver in proptest::collection::vec(-15i32..=15, 300),
    ) {
        let begin = Instant::now();
        let mut router = router(lanes(20), begin);
        let steady = |second: u64| {
            let percent = 100 + waver[second as usize];
            u32::try_from(i64::from(level) * 20 * i64::from(percent) / 100).unwrap()
        };
        sizes(&mut router, begin, 120, steady);
        let later = sizes(&mut router, begin + Duration::from_secs(120), 180, |second| steady(second + 120));
        prop_assert!(later.is_sorted(), "it shrank and grew again: {later:?}");
    }
}
