//! Carries what the registry withdraws to the gateway in the same process.

use souk_gateway::Gateway;
use souk_registry::{WithdrawalListener, Withdrawn};

/// Ends the running answers of each version that is taken down, here and at the nodes, of each key that is revoked, and of
/// tenants that may call an adapter no more, until the registry is gone.
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
            Withdrawn::Access { adapter, from } => {
                tracing::info!(%adapter, ?from, "Access to an adapter was withdrawn: running answers end");
                gateway.end_access(&adapter, &from).await;
            }
        }
    }
}
