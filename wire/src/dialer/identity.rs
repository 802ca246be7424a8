//! Who dials.

use souk_protocol::{NodeId, PoolId};

/// Who dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The node, as it is known in the queue.
    pub node: NodeId,
    /// Its base model.
    pub pool: PoolId,
}
