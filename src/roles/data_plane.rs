//! A gateway apart from its registries: the OpenAI API, an in-process queue and a node. It has no database.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use souk_gateway::{Accounting, Gateway};
use souk_http::serve::{self, Server};
use souk_node::node::Node;
use souk_protocol::{NodeId, PoolId};
use souk_queue::{EventHub, JobQueue, MemoryQueue};
use souk_registries::{HttpCatalog, HttpHooks, HttpUsage};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::hooks::HookWorks;
use super::node::RunningNode;
use super::signals::Signals;
use super::{LAST_WORDS, accounting, gateway, listening, node, registries, routes};
use crate::config::{Config, Role};
use crate::ports::{adapter_files, pins, withdrawals};
use crate::telemetry;

/// Serves until SIGTERM or Ctrl-C, then drains. No registry needs to be there yet: until one answers, nobody is let in.
///
/// # Errors
/// What keeps the gateway from starting; after that, what breaks the listener.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    telemetry::start_logging(&config)?;
    config.say_what_is_unused(Role::Gateway);
    let descriptors = serve::raise_limit();
    let metrics = telemetry::start_metrics()?;
    let (catalog, withdrawn) =
        HttpCatalog::new(&registries::of_gateway(&config.gateway)?).context("the registries cannot be asked")?;
    let catalog = Arc::new(catalog);
    let base = node::load_base(&config).await?;

    let (bases, pool) = (vec![base.model.clone()], PoolId(base.model.digest));
    let hub = EventHub::new();
    let queue: Arc<dyn JobQueue> = Arc::new(MemoryQueue::new(config.queue));
    let source = adapter_files::from_registries(catalog.registries().clone(), false);
    let ports = node::Ports { queue: Arc::clone(&queue), events: Arc::new(hub.clone()), source };
    let RunningNode { node, context_tokens } = node::start(&config, base, NodeId::new(), ports)?;
    let _keeping_up = AbortOnDropHandle::new(tokio::spawn(metrics.clone().keep_up()));
    let _pins = pins::keep_all(&config, Arc::clone(&catalog) as Arc<dyn pins::OperatorsNames>, &queue, &[pool]);
    let accounting = accounting::open(&config, Arc::new(HttpUsage::new(catalog.registries().clone()))).await?;
    let hooks = HookWorks::start(&config)?.for_gateway(Arc::new(HttpHooks::new(catalog.registries().clone())));
    let ports = gateway::Ports { catalog, accounting: accounting.clone(), queue, hub, hooks };
    let gateway = gateway::start(&config, bases, Some(context_tokens), ports, metrics)?;
    let carried = withdrawals::carry_heard(withdrawn, gateway.clone());
    let _carried = AbortOnDropHandle::new(tokio::spawn(carried));

    let signals = Signals::listen()?;
    let server = Server::new(config.server.clone(), descriptors);
    let router = routes::of_gateway(gateway.clone());
    let _listening = listening::listen(&server, &config.server, router).await?;
    signals.then(drain(gateway, accounting, node, server, config.server.drain_timeout)).await
}

/// Refuses new requests, lets running ones end, and returns, all within `drain_timeout`.
async fn drain(gateway: Gateway, accounting: Accounting, node: Node, server: Server, drain_timeout: Duration) {
    let deadline = Instant::now() + drain_timeout;
    let answers_end = deadline - LAST_WORDS.min(drain_timeout / 4);
    if tokio::time::timeout_at(answers_end, gateway.drain()).await.is_err() {
        tracing::warn!("Answers were still running after {drain_timeout:?} and are cut off");
        gateway.cut_off().await;
    }
    let left = |least: Duration| deadline.saturating_duration_since(Instant::now()).max(least);
    if tokio::time::timeout(left(LAST_WORDS), node.drain(left(LAST_WORDS) / 2)).await.is_err() {
        tracing::warn!("The node did not end in time");
    }
    listening::close(server, Instant::now() + left(LAST_WORDS / 4)).await;
    // What was cut off is settled by now, or counts as lost.
    tokio::time::timeout(left(LAST_WORDS) / 4, gateway.drain()).await.ok();
    accounting.close(left(LAST_WORDS) / 2).await;
}
