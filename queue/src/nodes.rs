//! What nodes say of themselves.

use serde::{Deserialize, Serialize};
use souk_protocol::{Digest, NodeId, PoolId};

/// The version of what gateways, queue and nodes say to each other. Sides that differ in it do not work together: a gateway
/// passes such a node over, and says so in its log.
pub const PROTOCOL_VERSION: u32 = 1;

/// Most adapters that a node names at a heartbeat: a gateway of 1,000 nodes then reads some 100 MB at worst, and of usual
/// nodes, which hold some hundred, 10 MB. A node that holds more names those that were used last.
pub const MOST_RESIDENT_NAMED: usize = 2048;

/// What a node says of itself at each heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node, and so its lane.
    pub node: NodeId,
    /// The pool that it serves, which is the digest of the base model that it runs.
    pub pool: PoolId,
    /// Its [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// What it has.
    pub capacity: NodeCapacity,
    /// What one job may ask of it.
    pub limits: NodeLimits,
    /// What of it is in use.
    pub load: NodeLoad,
    /// Adapters that are ready in its memory, by digest; [`MOST_RESIDENT_NAMED`] at most.
    pub resident: Vec<ResidentAdapter>,
}

/// What a node has for jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCapacity {
    /// Jobs that its batch has places for.
    pub places: u32,
    /// KV blocks.
    pub kv_blocks: u32,
    /// Bytes of adapters that can act in a step.
    pub adapter_bytes: u64,
}

/// What one job may ask of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLimits {
    /// Most tokens of prompt and answer together.
    pub context_tokens: u32,
    /// Largest rank of an adapter.
    pub max_rank: u32,
}

/// What of a node is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Jobs that it holds.
    pub running: u32,
    /// How many more it could start now.
    pub free_slots: u32,
    /// KV blocks that no job holds.
    pub free_kv_blocks: u32,
    /// Bytes of adapters on its device that jobs run with.
    pub adapter_bytes_in_use: u64,
}

/// An adapter in a node's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResidentAdapter {
    /// Digest of the version's manifest.
    pub digest: Digest,
    /// The highest tier that it is in.
    pub tier: AdapterTier,
}

/// Where in a node an adapter is; the lower is the farther from the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterTier {
    /// Packed, in main memory.
    Host,
    /// Where the model runs.
    Device,
}

/// A live node and what waits in its lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneStatus {
    /// What the node said last.
    pub node: NodeStatus,
    /// Jobs that wait in its lane.
    pub queued: usize,
}

impl NodeStatus {
    /// A node of this version that has said nothing else yet.
    #[must_use]
    pub fn new(node: NodeId, pool: PoolId) -> Self {
        Self {
            node,
            pool,
            protocol: PROTOCOL_VERSION,
            capacity: NodeCapacity::default(),
            limits: NodeLimits::default(),
            load: NodeLoad::default(),
            resident: Vec::new(),
        }
    }
}
