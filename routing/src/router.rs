//! The router of one pool.

use std::collections::HashMap;
use std::time::Instant;

use souk_protocol::{Digest, NodeId};
use souk_queue::{AdapterTier, LaneStatus, PROTOCOL_VERSION};

use crate::lane::{Lane, bound};
use crate::settings::RoutingSettings;
use crate::traffic::{PoolSize, Traffic};

/// What waiting for a load counts for, as a part of a node's places: a replica that has the adapter is preferred until it is so
/// much fuller than one that has not.
const COLD: f64 = 0.25;
/// The same of what is in host memory only, and comes to the device within a step.
const IN_HOST_MEMORY: f64 = 0.03;
/// The same of the lane that comes next after an adapter's set and has it all the same.
const BESIDE_THE_SET: f64 = 0.125;

/// Picks the lane for each job of a pool, by rendezvous hashing with bounded load (arXiv 1608.01350) over sets of replicas.
///
/// Each adapter has its own order of the nodes, which is the same on every gateway. It is kept on the first of them, on more the
/// more of the pool's load is its own, so it stays warm on few nodes; a job goes to the one of them that has it and is least full.
/// Where the first nodes are beyond their bound the next in the order is asked. A node that is lost moves only the adapters that
/// it had. A node that joins takes over what it is the first of as others let go of it: while the adapter is resident on the
/// node that comes next, that one is preferred to loading it anew.
///
/// Residency is what nodes say at their heartbeats, not what was sent to them. Load is what the queue and the nodes say and, since
/// that is up to a second old, what this router sent and saw end.
///
/// Two gateways with the same lanes choose the same, as far as their own traffic says the same of how large a set is to be; the
/// sets of one adapter are then one within the other.
#[derive(Debug)]
pub struct Router {
    settings: RoutingSettings,
    lanes: Vec<Lane>,
    by_node: HashMap<NodeId, usize>,
    places: u64,
    /// Jobs in all lanes, as far as is known.
    total: u64,
    /// Of lanes that are gone for now too, which may be back.
    under_way: HashMap<NodeId, u32>,
    strangers: Vec<Stranger>,
    traffic: Traffic,
}

/// What is to be sent somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job<'a> {
    /// The adapter whose residency decides, which of several is the first; `None` for the base model alone.
    pub adapter: Option<&'a Digest>,
    /// How many jobs of one request go together, which share adapters and prompts.
    pub jobs: u32,
}

/// Where jobs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The lane.
    pub node: NodeId,
    /// Where the node has the adapter, as it said last; `None` where it has to load it.
    pub found: Option<AdapterTier>,
    /// Which lane of the adapter's order it is.
    pub why: Why,
    /// Whether the adapter's jobs went elsewhere before, and it is not resident here: it moves, or one more node loads it.
    pub moved: bool,
}

/// Why a lane was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is in the adapter's set.
    Replica,
    /// It comes next after the set and has the adapter.
    Neighbour,
    /// All of the set are beyond their bound.
    Overflow,
}

impl Why {
    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Neighbour => "neighbour",
            Self::Overflow => "overflow",
        }
    }
}

/// A node that speaks another version of the protocol. Nothing is sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The node.
    pub node: NodeId,
    /// Its version.
    pub protocol: u32,
}

impl Router {
    /// A router that knows no lane yet.
    #[must_use]
    pub fn new(settings: RoutingSettings, now: Instant) -> Self {
        Self {
            settings,
            lanes: Vec::new(),
            by_node: HashMap::new(),
            places: 0,
            total: 0,
            under_way: HashMap::new(),
            strangers: Vec::new(),
            traffic: Traffic::new(now),
        }
    }

    /// Takes over what the queue says of the live lanes. Returns nodes of another protocol version that were not there before.
    pub fn refresh(&mut self, lanes: Vec<LaneStatus>, now: Instant) -> Vec<Stranger> {
        let (ours, others): (Vec<_>, Vec<_>) =
            lanes.into_iter().partition(|lane| lane.node.protocol == PROTOCOL_VERSION);
        let strangers: Vec<_> =
            others.into_iter().map(|lane| Stranger { node: lane.node.node, protocol: lane.node.protocol }).collect();
        let new = strangers.iter().filter(|stranger| !self.strangers.contains(stranger)).cloned().collect();
        self.strangers = strangers;
        let under_way = |node: &NodeId| self.under_way.get(node).copied().unwrap_or_default();
        let with_own = ours.into_iter().map(|lane| {
            let own = under_way(&lane.node.node);
            Lane::new(lane, own)
        });
        self.lanes = with_own.collect();
        self.by_node = self.lanes.iter().enumerate().map(|(at, lane)| (lane.status.node.node.clone(), at)).collect();
        self.places = self.lanes.iter().map(|lane| u64::from(lane.places())).sum();
        self.total = self.lanes.iter().map(|lane| u64::from(lane.load())).sum();
        self.traffic.observe_load(self.total, now, &self.settings);
        new
    }

    /// Chooses a lane for jobs and counts them as under way there until each has [`ended`](Self::ended). `None`: any node will do,
    /// or there is none.
    pub fn choose(&mut self, job: Job<'_>, now: Instant) -> Option<Choice> {
        let Some(adapter) = job.adapter else {
            self.traffic.count_base(job.jobs, now, &self.settings);
            return None;
        };
        let pool = PoolSize { lanes: self.lanes.len(), places: self.places };
        let replicas = self.traffic.count(adapter, job.jobs, now, pool, &self.settings);
        let (at, why) = self.pick(adapter, replicas, self.total + u64::from(job.jobs))?;
        let lane = &mut self.lanes[at];
        let before = lane.load();
        lane.sent += job.jobs;
        lane.under_way += job.jobs;
        self.total += u64::from(lane.load() - before);
        let found = lane.tier_of(adapter);
        let was_elsewhere = self.traffic.sent(adapter, lane.rendezvous);
        let node = lane.status.node.node.clone();
        *self.under_way.entry(node.clone()).or_default() += job.jobs;
        Some(Choice { node, found, why, moved: was_elsewhere && found.is_none() })
    }

    /// A job that was sent to a lane has ended, or was not queued after all.
    pub fn ended(&mut self, node: &NodeId) {
        if let Some(under_way) = self.under_way.get_mut(node) {
            *under_way -= 1;
            if *under_way == 0 {
                self.under_way.remove(node);
            }
        }
        if let Some(at) = self.by_node.get(node) {
            let lane = &mut self.lanes[*at];
            let before = lane.load();
            lane.ended += 1;
            lane.under_way = lane.under_way.saturating_sub(1);
            self.total = self.total.saturating_sub(u64::from(before - lane.load()));
        }
    }

    /// How many nodes jobs can go to.
    #[must_use]
    pub fn num_lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Jobs that the batches of all nodes have places for.
    #[must_use]
    pub const fn num_places(&self) -> u64 {
        self.places
    }

    /// The longest context that each node takes, in tokens: a job of more is too long for one that might get it. `None` while
    /// none says.
    #[must_use]
    pub fn context_tokens(&self) -> Option<u32> {
        let said = self.lanes.iter().map(|lane| lane.status.node.limits.context_tokens).filter(|tokens| *tokens > 0);
        said.min()
    }

    /// The largest rank of adapters that each node takes, for the same reason; `None` while none says.
    #[must_use]
    pub fn max_rank(&self) -> Option<u32> {
        self.lanes.iter().map(|lane| lane.status.node.limits.max_rank).filter(|rank| *rank > 0).min()
    }

    /// Nodes that have an adapter in memory, with the highest tier that it is in, by node.
    pub fn warm<'a>(&'a self, adapter: &'a Digest) -> impl Iterator<Item = (&'a NodeId, AdapterTier)> {
        self.lanes.iter().filter_map(|lane| Some((&lane.status.node.node, lane.tier_of(adapter)?)))
    }

    /// The adapters that this router's jobs ask for most now, at most `most`, the first of them first, each with a count of its jobs that
    /// fades.
    #[must_use]
    pub fn most_asked(&self, most: usize, now: Instant) -> Vec<(Digest, f64)> {
        self.traffic.most_asked(most, now, &self.settings)
    }

    /// The lane for a job where `total` jobs are in the pool with it.
    fn pick(&self, adapter: &Digest, replicas: usize, total: u64) -> Option<(usize, Why)> {
        let has_room = |lane: &Lane| lane.has_room(total, self.places, &self.settings);
        let first = self.first_of(adapter, replicas + 1);
        let in_set = first.iter().take(replicas).map(|at| (*at, Why::Replica));
        let neighbour = first.get(replicas).map(|at| (*at, Why::Neighbour));
        let neighbour = neighbour.filter(|(at, _)| self.lanes[*at].tier_of(adapter).is_some());
        // The first of equals, which is the one that comes first in the order.
        let in_order = in_set.chain(neighbour).filter(|(at, _)| has_room(&self.lanes[*at]));
        let costs = in_order.map(|(at, why)| ((at, why), self.cost(adapter, at, why)));
        let best = costs.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(choice, _)| choice);
        best.or_else(|| Some((self.overflow(adapter, has_room)?, Why::Overflow)))
    }

    /// What it costs to send a job of an adapter to a lane, as a part of the node's places.
    fn cost(&self, adapter: &Digest, at: usize, why: Why) -> f64 {
        let lane = &self.lanes[at];
        let away = match lane.tier_of(adapter) {
            Some(AdapterTier::Device) => 0.0,
            Some(AdapterTier::Host) => IN_HOST_MEMORY,
            None => COLD,
        };
        let beside = if why == Why::Neighbour { BESIDE_THE_SET } else { 0.0 };
        lane.fullness() + away + beside
    }

    /// The first lane with room that has the adapter, else the first with room.
    fn overflow(&self, adapter: &Digest, has_room: impl Fn(&Lane) -> bool) -> Option<usize> {
        let with_room = || (0..self.lanes.len()).filter(|at| has_room(&self.lanes[*at]));
        let earlier = |a: &usize, b: &usize| self.place(adapter, *a).total_cmp(&self.place(adapter, *b));
        let warm = with_room().filter(|at| self.lanes[*at].tier_of(adapter).is_some());
        warm.min_by(earlier).or_else(|| with_room().min_by(earlier))
    }

    /// The first `num_lanes` of an adapter's order, in that order.
    fn first_of(&self, adapter: &Digest, num_lanes: usize) -> Vec<usize> {
        let mut places: Vec<_> = (0..self.lanes.len()).map(|at| (self.place(adapter, at), at)).collect();
        let by_place = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if num_lanes < places.len() {
            places.select_nth_unstable_by(num_lanes, by_place);
            places.truncate(num_lanes);
        }
        places.sort_unstable_by(by_place);
        places.into_iter().map(|(_, at)| at).collect()
    }

    fn place(&self, adapter: &Digest, at: usize) -> f64 {
        let lane = &self.lanes[at];
        lane.rendezvous.place(adapter, lane.places())
    }

    /// How many jobs a lane may have before the next is asked, and how many it has, for a job that comes now; for tests and
    /// simulations.
    #[must_use]
    pub fn room_of(&self, node: &NodeId) -> Option<(u64, u64)> {
        let lane = &self.lanes[*self.by_node.get(node)?];
        Some((u64::from(lane.load()), bound(lane.places(), self.total + 1, self.places, &self.settings)))
    }

    /// On how many nodes an adapter is kept; 1 of one that is not known.
    #[must_use]
    pub fn replicas(&self, adapter: &Digest) -> usize {
        self.traffic.replicas(adapter)
    }
}
