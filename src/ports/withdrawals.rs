//! Carries what registries withdraw to the gateway in this process.

use souk_gateway::Gateway;
use souk_protocol::{AdapterName, Deprived, Digest, KeyId};
use souk_registries::Withdrawn as Heard;
use souk_registry::{WithdrawalListener, Withdrawn};
use tokio::sync::mpsc;

/// Ends the running answers of each version that is taken down, here and at the nodes, of each key that is revoked, and of
/// tenants that may call an adapter no more, until the registry is gone.
pub(crate) async fn carry(mut withdrawals: WithdrawalListener, gateway: Gateway) {
    while let Some(withdrawn) = withdrawals.next().await {
        match withdrawn {
            Withdrawn::Version(digest) => take_down(&gateway, &digest).await,
            Withdrawn::Key(id) => end_key(&gateway, &id).await,
            Withdrawn::Access { adapter, from } => end_access(&gateway, &adapter, &from).await,
        }
    }
}

/// The same of what registries elsewhere tell.
pub(crate) async fn carry_heard(mut heard: mpsc::Receiver<Heard>, gateway: Gateway) {
    while let Some(withdrawn) = heard.recv().await {
        match withdrawn {
            Heard::Version(digest) => take_down(&gateway, &digest).await,
            Heard::Key(id) => end_key(&gateway, &id).await,
            Heard::Access { adapter, from } => end_access(&gateway, &adapter, &from).await,
        }
    }
}

async fn take_down(gateway: &Gateway, digest: &Digest) {
    tracing::info!(adapter.digest = %digest, "A version was taken down: its running answers end");
    gateway.take_down(digest).await;
}

async fn end_key(gateway: &Gateway, id: &KeyId) {
    tracing::info!(key.id = %id, "A key was revoked: its running answers end");
    gateway.end_key(id).await;
}

async fn end_access(gateway: &Gateway, adapter: &AdapterName, from: &Deprived) {
    tracing::info!(%adapter, ?from, "Access to an adapter was withdrawn: running answers end");
    gateway.end_access(adapter, from).await;
}
