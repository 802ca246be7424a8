//! Every role in one process, served on one address, or on one for everybody and one for operators, and drained on a
//! signal. The services are the same as in a fleet; only their ports are function calls and channels.
//!
//! The order is: settings (already checked), model and database, services, address, requests. Nothing is bound before
//! everything else is known to be good.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use souk_gateway::Gateway;
use souk_http::Exporter;
use souk_http::draining::Draining;
use souk_http::public_url::PublicUrl;
use souk_http::serve::{self, Certificate, Listening, Server, ServerSettings};
use souk_models::base::LoadedBase;
use souk_node::node::Node;
use souk_protocol::PoolId;
use souk_queue::{EventHub, JobQueue, MemoryQueue};
use souk_registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::node::RunningNode;
use super::{gateway, node, registry, routes};
use crate::config::Config;
use crate::ports::catalog::InProcessCatalog;
use crate::ports::{adapter_files, known_take_downs, pins, withdrawals};
use crate::{telemetry, terminal};

/// What the end of a drain keeps for what is cut off: its clients are told, its jobs settled, the database closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or Ctrl-C, then drains. The admin key of the first start is also written to `admin_key_file`.
///
/// # Errors
/// What keeps the server from starting; after that, what breaks the listener.
pub(crate) async fn run(config: Config, admin_key_file: Option<&Path>) -> anyhow::Result<()> {
    telemetry::start_logging(&config)?;
    let descriptors = serve::raise_limit();
    let metrics = telemetry::start_metrics()?;
    let base = node::load_base(&config).await?;
    let registry = registry::open(&config, vec![base.model.clone()]).await?;
    registry::show_first_key(&registry, admin_key_file).await?;
    let services = Services::start(&config, registry, base, metrics)?;
    known_take_downs::order(&services.registry, &services.gateway).await;

    let signals = Signals::listen()?;
    let server = Server::new(config.server.clone(), descriptors);
    let router = routes::router(services.gateway.clone(), services.registry.clone(), services.draining.clone());
    let listening = listen(&server, &config.server, router).await?;
    serve_browsers(&config.server, &services.registry, &listening);
    services.serve(server, listening, signals, config.server.drain_timeout).await
}

/// Opens the ports: one for everything, or one for everybody and one for operators. Says where they are.
async fn listen(server: &Server, settings: &ServerSettings, router: Router) -> anyhow::Result<Vec<Listening>> {
    let certificate = settings.tls.is_on().then(|| Certificate::open(settings.tls.clone())).transpose()?;
    let admin = match settings.admin_address() {
        Some(address) => Some(bind(&address, "server.admin_listen").await?),
        None => None,
    };
    let public = bind(&settings.listen, "server.listen").await?;
    let mut ports = Vec::new();
    let router = if let Some(listener) = admin {
        let port = server.listen(listener, router.clone(), None).context("the operators' port has no address")?;
        terminal::line(&format!("operators on http://{}", port.address))?;
        ports.push(port);
        routes::public(router)
    } else {
        router
    };
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let port = server.listen(public, router, certificate).context("the port has no address")?;
    // Scripts wait for this line: from here on requests are answered.
    terminal::line(&format!("listening on {scheme}://{}", port.address))?;
    ports.push(port);
    Ok(ports)
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

async fn bind(address: &str, setting: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address} ({setting}); is another server there?"))
}

/// Everything that runs.
struct Services {
    gateway: Gateway,
    registry: Registry,
    node: Node,
    /// Whether all of it stops.
    draining: Draining,
    /// What runs beside them, until they end.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Services {
    fn start(config: &Config, registry: Registry, base: LoadedBase, metrics: Exporter) -> anyhow::Result<Self> {
        let bases = vec![base.model.clone()];
        let pool = PoolId(base.model.digest);
        let hub = EventHub::new();
        let queue: Arc<dyn JobQueue> = Arc::new(MemoryQueue::new(config.queue));
        let ports = node::Ports {
            queue: Arc::clone(&queue),
            events: Arc::new(hub.clone()),
            source: adapter_files::source(&registry),
        };
        let RunningNode { node, context_tokens } = node::start(config, base, ports)?;
        let mut tasks = vec![AbortOnDropHandle::new(tokio::spawn(metrics.clone().keep_up()))];
        tasks.extend(keep_pins(config, &registry, &queue, pool));
        let ports = gateway::Ports { catalog: Arc::new(InProcessCatalog(registry.clone())), queue, hub };
        let gateway = gateway::start(config, bases, context_tokens, ports, metrics)?;
        let carried = withdrawals::carry(registry.withdrawals(), gateway.clone());
        tasks.push(AbortOnDropHandle::new(tokio::spawn(carried)));
        Ok(Self { gateway, registry, node, draining: Draining::default(), _tasks: tasks })
    }

    /// Answers requests until a signal; then refuses new ones, lets running ones end, and returns, all within
    /// `drain_timeout`. A second signal ends everything at once.
    async fn serve(
        self,
        server: Server,
        _listening: Vec<Listening>,
        mut signals: Signals,
        drain_timeout: Duration,
    ) -> anyhow::Result<()> {
        signals.next().await;
        tracing::info!(?drain_timeout, "Stopping: new requests are refused, running answers may end");
        tokio::select! {
            () = self.drain(server, drain_timeout) => Ok(()),
            () = signals.next() => anyhow::bail!("a second signal came: ended at once, with answers still running"),
        }
    }

    async fn drain(self, server: Server, drain_timeout: Duration) {
        let Self { gateway, registry, node, draining, _tasks } = self;
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
        let hung = server.close(Instant::now() + left(LAST_WORDS / 4)).await;
        if hung > 0 {
            tracing::warn!(connections = hung, "Connections were still open and are cut off");
        }
        tokio::time::timeout(left(LAST_WORDS), registry.close()).await.ok();
    }
}

/// Has the adapters of `adapters.pinned` kept on the device, if there are any.
fn keep_pins(
    config: &Config,
    registry: &Registry,
    queue: &Arc<dyn JobQueue>,
    pool: PoolId,
) -> Option<AbortOnDropHandle<()>> {
    let names = config.adapters.pinned.clone();
    let keep = |names| pins::keep(names, registry.clone(), Arc::clone(queue), pool);
    (!names.is_empty()).then(|| AbortOnDropHandle::new(tokio::spawn(keep(names))))
}

/// SIGTERM and Ctrl-C.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind, name| signal(kind).with_context(|| format!("cannot listen for {name}"));
        Ok(Self {
            terminate: listen(SignalKind::terminate(), "SIGTERM")?,
            interrupt: listen(SignalKind::interrupt(), "SIGINT")?,
        })
    }

    /// Waits for the next of them.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
