//! What the registry knows to be taken down, ordered anew at the start.
//!
//! The queue of one process forgets its orders with the process, and a crash between a take-down's commit and its order
//! leaves the packed file on disk, to be found when somebody has a digest of it. Nobody is served it, since the gateway
//! asks the registry; but no tier is to keep it. An order that comes twice has no effect.

use souk_gateway::Gateway;
use souk_queue::ORDERS_KEPT;
use souk_registry::Registry;

/// Orders the take-downs that the registry knows, as many as a queue keeps.
pub(crate) async fn order(registry: &Registry, gateway: &Gateway) {
    match registry.last_taken_down(ORDERS_KEPT as u64).await {
        Ok(digests) => {
            for digest in &digests {
                gateway.take_down(digest).await;
            }
            if !digests.is_empty() {
                tracing::info!(num_versions = digests.len(), "Versions that were taken down are ordered off the nodes");
            }
        }
        Err(error) => tracing::error!(%error, "Cannot look up what was taken down; nodes may keep files of it"),
    }
}
