//! Carries take-downs from the registry to the gateway in the same process.

use souk_gateway::Gateway;
use souk_registry::TakeDownListener;

/// Ends the running answers of each version that is taken down, here and at the nodes, until the registry is gone.
pub(crate) async fn carry(mut take_downs: TakeDownListener, gateway: Gateway) {
    while let Some(digest) = take_downs.next().await {
        tracing::info!(adapter.digest = %digest, "A version was taken down: its running answers end");
        gateway.take_down(&digest).await;
    }
}
