//! Who a node is and how it keeps in touch.

use std::time::Duration;

use souk_protocol::{NodeId, PoolId};

/// Who a node is and how it keeps in touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The pool that it serves: the digest of its base model.
    pub pool: PoolId,
    /// Its identity, and so its lane.
    pub node: NodeId,
    /// Time between two heartbeats; a fraction of the queue's `heartbeat_timeout`.
    pub heartbeat_every: Duration,
    /// Longest time between two reports of progress, which renew leases and charge tenants. Shorter if leases are.
    pub report_every: Duration,
    /// Jobs that may wait here for their adapters or for room in the batch: they are out of the fair queue's hands. A
    /// few keep the batch full while the next claim is under way.
    pub max_waiting: usize,
    /// Jobs beyond these, one each of tenants of whom nothing is here yet: whose first request does not wait for a
    /// place behind another tenant's long answers. The engine lets them into the batch at once; at most so many may be
    /// on their way into it.
    pub max_newcomers: usize,
}

impl NodeConfig {
    /// A new node of a pool, with the usual times.
    #[must_use]
    pub fn new(pool: PoolId) -> Self {
        Self {
            pool,
            node: NodeId::new(),
            heartbeat_every: Duration::from_secs(1),
            report_every: Duration::from_secs(1),
            max_waiting: 8,
            max_newcomers: 4,
        }
    }
}
