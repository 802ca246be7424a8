//! Carries take-downs from the registry to the gateway and the nodes of the same process.

use std::sync::Arc;

use souk_gateway::Gateway;
use souk_protocol::PoolId;
use souk_queue::{JobQueue, NodeOrder};
use souk_registry::TakeDownListener;

/// Ends the running answers of each version that is taken down, and orders the nodes of `pool` to keep it nowhere, until
/// the registry is gone.
pub(crate) async fn carry(mut take_downs: TakeDownListener, gateway: Gateway, queue: Arc<dyn JobQueue>, pool: PoolId) {
    while let Some(digest) = take_downs.next().await {
        tracing::info!(adapter.digest = %digest, "A version was taken down: its running answers end");
        gateway.take_down(&digest).await;
        if let Err(error) = queue.order(pool, NodeOrder::TakeDown(digest)).await {
            tracing::error!(%error, adapter.digest = %digest, "The nodes were not told of a take-down");
        }
    }
}
