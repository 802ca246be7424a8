//! A gateway whose nodes and registries are elsewhere: the OpenAI API. It has no database and no model; its queue is in
//! Redis, and what comes of its jobs comes by streams that nodes open to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use souk_gateway::{Accounting, Gateway};
use souk_http::serve::{self, Server};
use souk_protocol::PoolId;
use souk_queue::EventHub;
use souk_registries::{HttpCatalog, HttpHooks, HttpUsage};
use souk_wire::Receiver;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::hooks::HookWorks;
use super::signals::Signals;
use super::{LAST_WORDS, accounting, base_files, gateway, listening, registries, routes};
use crate::config::{Config, Role};
use crate::ports::{events, pins, redis_queue, withdrawals};
use crate::telemetry;

/// Serves until SIGTERM or Ctrl-C, then drains. Neither a registry nor a node needs to be there yet.
///
/// # Errors
/// What keeps the gateway from starting; after that, what breaks the listener.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    telemetry::start_logging(&config)?;
    config.say_what_is_unused(Role::GatewayApart);
    let descriptors = serve::raise_limit();
    let metrics = telemetry::start_metrics()?;
    let bases = base_files::read("gateway.base_files", &config.gateway.base_files)?;
    let settings = registries::of_gateway(&config.gateway)?;
    let (catalog, withdrawn) = HttpCatalog::new(&settings).context("the registries cannot be asked")?;
    let catalog = Arc::new(catalog);

    let pools: Vec<PoolId> = bases.iter().map(|base| PoolId(base.digest)).collect();
    let hub = EventHub::new();
    let queue = redis_queue::open(&config)?;
    let _keeping_up = AbortOnDropHandle::new(tokio::spawn(metrics.clone().keep_up()));
    let _pins = pins::keep_all(&config, Arc::clone(&catalog) as Arc<dyn pins::OperatorsNames>, &queue, &pools);
    let accounting = accounting::open(&config, Arc::new(HttpUsage::new(catalog.registries().clone()))).await?;
    let hooks = HookWorks::start(&config)?.for_gateway(Arc::new(HttpHooks::new(catalog.registries().clone())));
    let ports = gateway::Ports {
        catalog: Arc::clone(&catalog) as _,
        accounting: accounting.clone(),
        queue,
        hub: hub.clone(),
        hooks,
    };
    let gateway = gateway::start(&config, bases, None, ports, metrics)?;
    let receiver = events::from_nodes(&config.wire, gateway.id().clone(), pools, hub, catalog);
    let carried = withdrawals::carry_heard(withdrawn, gateway.clone());
    let _carried = AbortOnDropHandle::new(tokio::spawn(carried));

    let signals = Signals::listen()?;
    let server = Server::new(config.server.clone(), descriptors);
    let router = routes::of_gateway(gateway.clone()).merge(routes::for_services(receiver.router()));
    let _listening = listening::listen(&server, &config.server, router).await?;
    signals.then(drain(gateway, receiver, accounting, server, config.server.drain_timeout)).await
}

/// Refuses new requests, lets running ones end, and returns, all within `drain_timeout`.
async fn drain(gateway: Gateway, receiver: Receiver, accounting: Accounting, server: Server, drain_timeout: Duration) {
    let deadline = Instant::now() + drain_timeout;
    let last_words = LAST_WORDS.min(drain_timeout / 4);
    if tokio::time::timeout_at(deadline - last_words, gateway.drain()).await.is_err() {
        tracing::warn!("Answers were still running after {drain_timeout:?} and are cut off");
        gateway.cut_off().await;
        // What was cut off is settled by its node, or counts as lost.
        tokio::time::timeout(last_words / 4, gateway.drain()).await.ok();
    }
    tokio::time::timeout(last_words / 4, receiver.close()).await.ok();
    listening::close(server, Instant::now() + last_words / 4).await;
    accounting.close(last_words / 2).await;
}
