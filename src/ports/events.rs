//! How what comes of jobs gets from nodes apart to gateways: the stream of souk-wire, between services that tell each other by
//! the tokens of the installation.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};
use souk_protocol::{GatewayId, NodeId, PoolId};
use souk_queue::EventHub;
use souk_registries::{HttpCatalog, Registries};
use souk_wire::{Dialer, HttpDial, NodeIdentity, Receiver, TokenSource, VerifyNode, WireSettings};

/// Where a node sends what comes of its jobs. Call it within a tokio runtime.
///
/// # Errors
/// If the certificates of the settings cannot be used.
pub(crate) fn to_gateways(
    settings: &WireSettings,
    node: &NodeId,
    pool: PoolId,
    registries: Registries,
) -> anyhow::Result<Dialer> {
    let dial = HttpDial::new(settings, Arc::new(OwnToken(registries))).context("gateways cannot be dialled")?;
    let identity = NodeIdentity { node: node.clone(), pool };
    Ok(Dialer::new(settings.clone(), identity, Arc::new(dial)))
}

/// Where a gateway takes it. Call it within a tokio runtime.
pub(crate) fn from_nodes(
    settings: &WireSettings,
    gateway: GatewayId,
    pools: Vec<PoolId>,
    hub: EventHub,
    catalog: Arc<HttpCatalog>,
) -> Receiver {
    Receiver::new(settings.clone(), gateway, pools, hub, Arc::new(KnownNodes(catalog)))
}

/// The node's own token, which registries give.
struct OwnToken(Registries);

#[async_trait]
impl TokenSource for OwnToken {
    async fn token(&self, refused: Option<&SecretString>) -> Result<SecretString, String> {
        let refused = refused.map(|token| token.expose_secret());
        self.0.service_token(refused).await.map_err(|error| error.to_string())
    }
}

/// Nodes, by the keys that registries publish.
struct KnownNodes(Arc<HttpCatalog>);

#[async_trait]
impl VerifyNode for KnownNodes {
    async fn verify(&self, token: &str) -> Result<String, String> {
        self.0.authenticate_node(token).await.map_err(|error| error.to_string())
    }
}
