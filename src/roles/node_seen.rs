//! What is known of a node from outside, while it starts and after.

use std::sync::{Arc, OnceLock};

use souk_http::draining::Draining;
use souk_node::node::Node;

/// Where a node is in its life. Clones say the same.
#[derive(Clone, Default)]
pub(super) struct NodeSeen {
    node: Arc<OnceLock<Arc<Node>>>,
    /// Whether it stops.
    pub(super) draining: Draining,
}

impl NodeSeen {
    /// From now on it runs.
    pub(super) fn runs(&self, node: Arc<Node>) {
        // A process starts one.
        self.node.set(node).ok();
    }

    /// As `/ready` says it.
    pub(super) fn status(&self) -> &'static str {
        match self.node.get() {
            _ if self.draining.has_begun() => "shutting_down",
            None => "loading",
            Some(node) if node.is_registered() => "ready",
            Some(_) => "waiting_for_queue",
        }
    }
}
