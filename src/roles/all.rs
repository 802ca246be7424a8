//! Every role in one process, served on one address, or on one for everybody and one for operators, and drained on a
//! signal. The services are the same as in a fleet; only their ports are function calls and channels.
//!
//! The order is: settings (already checked), model and database, services, address, requests. Nothing is bound before
//! everything else is known to be good.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use souk_gateway::{Accounting, Gateway};
use souk_http::Exporter;
use souk_http::draining::Draining;
use souk_http::public_url::PublicUrl;
use souk_http::serve::{self, Listening, Server, ServerSettings};
use souk_models::base::LoadedBase;
use souk_node::node::Node;
use souk_protocol::{NodeId, PoolId};
use souk_queue::{EventHub, JobQueue, MemoryQueue};
use souk_registry::Registry;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::hooks::HookWorks;
use super::node::RunningNode;
use super::signals::Signals;
use super::{LAST_WORDS, accounting, gateway, listening, node, operators_hooks, registry, routes};
use crate::config::{Config, Role};
use crate::ports::catalog::InProcessCatalog;
use crate::ports::hook_source::InProcessHooks;
use crate::ports::usage_store::InProcessUsage;
use crate::ports::{adapter_files, known_take_downs, pins, withdrawals};
use crate::telemetry;

/// Serves until SIGTERM or Ctrl-C, then drains. The admin key of the first start is also written to `admin_key_file`.
///
/// # Errors
/// What keeps the server from starting; after that, what breaks the listener.
pub(crate) async fn run(config: Config, admin_key_file: Option<&Path>) -> anyhow::Result<()> {
    telemetry::start_logging(&config)?;
    config.say_what_is_unused(Role::All);
    let descriptors = serve::raise_limit();
    let metrics = telemetry::start_metrics()?;
    let base = node::load_base(&config).await?;
    let works = HookWorks::start(&config)?;
    let registry = registry::open(&config, vec![base.model.clone()]).await?;
    registry::show_first_key(&registry, admin_key_file).await?;
    registry.takes_hooks(works.for_registry());
    let _installing = operators_hooks::install(&config, &registry);
    let accounting = accounting::open(&config, Arc::new(InProcessUsage::new(registry.clone()))).await?;
    let services = Services::start(&config, registry, accounting, base, &works, metrics)?;
    known_take_downs::order(&services.registry, &services.gateway).await;

    let signals = Signals::listen()?;
    let server = Server::new(config.server.clone(), descriptors);
    let router = routes::of_all(services.gateway.clone(), services.registry.clone(), services.draining.clone());
    let listening = listening::listen(&server, &config.server, router).await?;
    serve_browsers(&config.server, &services.registry, &listening);
    Box::pin(signals.then(services.drain(server, config.server.drain_timeout))).await
}

/// Tells the registry where browsers reach it, where the settings do not: at the port that only this machine reaches.
fn serve_browsers(settings: &ServerSettings, registry: &Registry, listening: &[Listening]) {
    let is_private = settings.admin_address().is_none() && !settings.tls.is_on();
    if let ([port], true) = (listening, is_private)
        && let Some(url) = PublicUrl::of_this_machine(port.address)
    {
        registry.serves_at(url);
    }
}

/// Everything that runs.
struct Services {
    gateway: Gateway,
    accounting: Accounting,
    registry: Registry,
    node: Node,
    /// Whether all of it stops.
    draining: Draining,
    /// What runs beside them, until they end.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Services {
    fn start(
        config: &Config,
        registry: Registry,
        accounting: Accounting,
        base: LoadedBase,
        works: &HookWorks,
        metrics: Exporter,
    ) -> anyhow::Result<Self> {
        let bases = vec![base.model.clone()];
        let pool = PoolId(base.model.digest);
        let hub = EventHub::new();
        let queue: Arc<dyn JobQueue> = Arc::new(MemoryQueue::new(config.queue));
        let ports = node::Ports {
            queue: Arc::clone(&queue),
            events: Arc::new(hub.clone()),
            source: adapter_files::source(&registry),
        };
        let RunningNode { node, context_tokens } = node::start(config, base, NodeId::new(), ports)?;
        let mut tasks = vec![AbortOnDropHandle::new(tokio::spawn(metrics.clone().keep_up()))];
        tasks.extend(pins::keep_all(config, Arc::new(registry.clone()), &queue, &[pool]));
        let catalog = Arc::new(InProcessCatalog::new(registry.clone(), config.gateway.rights_stale));
        let hooks = works.for_gateway(Arc::new(InProcessHooks(registry.clone())));
        let ports = gateway::Ports { catalog, accounting: accounting.clone(), queue, hub, hooks };
        let gateway = gateway::start(config, bases, Some(context_tokens), ports, metrics)?;
        let carried = withdrawals::carry(registry.withdrawals(), gateway.clone());
        tasks.push(AbortOnDropHandle::new(tokio::spawn(carried)));
        Ok(Self { gateway, accounting, registry, node, draining: Draining::default(), _tasks: tasks })
    }

    /// Refuses new requests, lets running ones end, and returns, all within `drain_timeout`.
    async fn drain(self, server: Server, drain_timeout: Duration) {
        let Self { gateway, accounting, registry, node, draining, _tasks } = self;
        let deadline = Instant::now() + drain_timeout;
        draining.begin();
        // Answers end early enough that what is cut off can be told to its client and settled.
        let answers_end = deadline - LAST_WORDS.min(drain_timeout / 4);
        // The port stays open while answers run, so that late requests hear 503 and not a broken connection.
        if tokio::time::timeout_at(answers_end, gateway.drain()).await.is_err() {
            tracing::warn!("Answers were still running after {drain_timeout:?} and are cut off");
            gateway.cut_off().await;
        }
        let left = |least: Duration| deadline.saturating_duration_since(Instant::now()).max(least);
        if tokio::time::timeout(left(LAST_WORDS), node.drain(left(LAST_WORDS) / 2)).await.is_err() {
            tracing::warn!("The node did not end in time");
        }
        registry.end_streams();
        listening::close(server, Instant::now() + left(LAST_WORDS / 4)).await;
        // What was cut off is settled by now, or counts as lost.
        tokio::time::timeout(left(LAST_WORDS) / 4, gateway.drain()).await.ok();
        accounting.close(left(LAST_WORDS) / 2).await;
        tokio::time::timeout(left(LAST_WORDS), registry.close()).await.ok();
    }
}
