//! The data plane: the OpenAI API.

use std::sync::Arc;

use anyhow::Context as _;
use souk_gateway::{Accounting, Catalog, Gateway, GatewayLimits, GatewayParts, Hooks};
use souk_http::Exporter;
use souk_protocol::BaseModel;
use souk_queue::{EventHub, JobQueue};

use crate::config::Config;

/// What a gateway calls, and by what it is answered.
pub(crate) struct Ports {
    /// Who may call what.
    pub(crate) catalog: Arc<dyn Catalog>,
    /// Where what is used is counted.
    pub(crate) accounting: Accounting,
    /// Where jobs go.
    pub(crate) queue: Arc<dyn JobQueue>,
    /// Where their events come from.
    pub(crate) hub: EventHub,
    /// The hooks that it calls.
    pub(crate) hooks: Hooks,
}

/// Starts a gateway for `bases`, whose nodes take contexts of at most `context_tokens`; `None`: of the models' own.
///
/// # Errors
/// If a base model's tokenizer or template is not supported.
pub(crate) fn start(
    config: &Config,
    bases: Vec<BaseModel>,
    context_tokens: Option<usize>,
    ports: Ports,
    metrics: Exporter,
) -> anyhow::Result<Gateway> {
    let Ports { catalog, accounting, queue, hub, hooks } = ports;
    let limits = GatewayLimits { context_tokens, constraints: config.constraints, ..config.gateway.clone() };
    let cors = config.cors.origins.clone();
    Gateway::new(GatewayParts { bases, catalog, queue, hub, accounting, metrics, cors, hooks, limits })
        .context("the gateway cannot serve this base model")
}
