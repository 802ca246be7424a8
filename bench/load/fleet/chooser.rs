//! The ways of routing that are compared. Each gateway has one of its own.

use std::time::Instant;

use souk_protocol::{Digest, NodeId};
use souk_queue::LaneStatus;
use souk_routing::{Job, Rendezvous, Router, RoutingSettings};

use crate::random::Generator;

/// A way of routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routing {
    /// As gateways do it.
    Souk,
    /// The first node of the adapter's order, however full it is.
    Rendezvous,
    /// The node with the fewest jobs, whatever it has in memory.
    LeastLoaded,
    /// Any node.
    Random,
}

impl Routing {
    pub(super) const ALL: [Self; 4] = [Self::Souk, Self::Rendezvous, Self::LeastLoaded, Self::Random];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Souk => "souk",
            Self::Rendezvous => "plain rendezvous",
            Self::LeastLoaded => "least loaded",
            Self::Random => "random",
        }
    }
}

/// What a gateway routes with.
#[derive(Debug)]
pub(super) enum Chooser {
    Souk(Box<Router>),
    Other(Routing, Vec<Lane>),
}

/// A lane as the other ways know it: as much of its load as ours knows.
#[derive(Debug)]
pub(super) struct Lane {
    node: NodeId,
    rendezvous: Rendezvous,
    said: u32,
    sent: u32,
    ended: u32,
    under_way: u32,
}

impl Lane {
    fn load(&self) -> u32 {
        (self.said + self.sent).saturating_sub(self.ended).max(self.under_way)
    }
}

impl Chooser {
    pub(super) fn new(routing: Routing, now: Instant) -> Self {
        match routing {
            Routing::Souk => Self::Souk(Box::new(Router::new(RoutingSettings::default(), now))),
            other => Self::Other(other, Vec::new()),
        }
    }

    /// Whether it looks at what nodes have in memory.
    pub(super) const fn reads_residency(&self) -> bool {
        matches!(self, Self::Souk(_))
    }

    /// Takes over what the queue says.
    pub(super) fn refresh(&mut self, lanes: Vec<LaneStatus>, now: Instant) {
        match self {
            Self::Souk(router) => drop(router.refresh(lanes, now)),
            Self::Other(_, known) => {
                let known_before = std::mem::take(known);
                // Both are in the order of the nodes' names.
                let mut before = known_before.into_iter().peekable();
                known.extend(lanes.into_iter().map(|lane| {
                    while before.next_if(|old| old.node < lane.node.node).is_some() {}
                    let same = before.next_if(|old| old.node == lane.node.node);
                    let said = lane.node.load.running + u32::try_from(lane.queued).unwrap_or(u32::MAX);
                    let rendezvous = Rendezvous::of(&lane.node.node);
                    let under_way = same.map_or(0, |old| old.under_way);
                    Lane { node: lane.node.node, rendezvous, said, sent: 0, ended: 0, under_way }
                }));
            }
        }
    }

    /// Chooses a node for one job; `None` where it knows of no node.
    pub(super) fn choose(&mut self, adapter: &Digest, now: Instant, generator: &mut Generator) -> Option<NodeId> {
        let (routing, lanes) = match self {
            Self::Souk(router) => {
                return router.choose(Job { adapter: Some(adapter), jobs: 1 }, now).map(|choice| choice.node);
            }
            Self::Other(routing, lanes) => (*routing, lanes),
        };
        if lanes.is_empty() {
            return None;
        }
        // Where the search begins, so that of equals another is the first each time.
        let first = generator.index(lanes.len());
        let in_turn = (first..lanes.len()).chain(0..first);
        let at = match routing {
            Routing::LeastLoaded => in_turn.min_by_key(|at| lanes[*at].load()),
            Routing::Rendezvous => {
                let places = in_turn.map(|at| (lanes[at].rendezvous.place(adapter, 1), at));
                places.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, at)| at)
            }
            Routing::Souk | Routing::Random => Some(first),
        }?;
        lanes[at].sent += 1;
        lanes[at].under_way += 1;
        Some(lanes[at].node.clone())
    }

    /// A job that was sent to a node has ended.
    pub(super) fn ended(&mut self, node: &NodeId) {
        match self {
            Self::Souk(router) => router.ended(node),
            Self::Other(_, lanes) => {
                if let Ok(at) = lanes.binary_search_by(|lane| lane.node.cmp(node)) {
                    lanes[at].ended += 1;
                    lanes[at].under_way = lanes[at].under_way.saturating_sub(1);
                }
            }
        }
    }
}
