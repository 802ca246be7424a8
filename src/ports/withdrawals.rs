//! Carries what the registry withdraws to the gateway in the same process.

use souk_gateway::Gateway;
use souk_registry::{WithdrawalListener, Withdrawn};

/// Ends the running answers of each version that is taken down, here and at the nodes, and of each key that is revoked,
/// until the registry is gone.
pub(crate) async fn carry(mut withdrawals: WithdrawalListener, gateway: Gateway) {
    while let Some(withdrawn) = withdrawals.next().await {
        match withdrawn {
            Withdrawn::Version(digest) => {
                tracing::info!(adapter.digest = %digest, "A version was taken down: its running answers end");
                gateway.take_down(&digest).await;
            }
            Withdrawn::Key(id) => {
                tracing::info!(key.id = %id, "A key was revoked: its running answers end");
                gateway.end_key(&id).await;
            }
        }
    }
}
