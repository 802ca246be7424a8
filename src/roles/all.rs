//! Every role in one process, served on one address and drained on a signal. The services are the same as in a fleet; only
//! their ports are function calls and channels.
//!
//! The order is: settings (already checked), model and database, services, address, requests. Nothing is bound before
//! everything else is known to be good.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use souk_gateway::Gateway;
use souk_http::Exporter;
use souk_models::base::LoadedBase;
use souk_node::adapters::FolderSource;
use souk_node::node::Node;
use souk_protocol::PoolId;
use souk_queue::{EventHub, JobQueue, MemoryQueue};
use souk_registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::node::RunningNode;
use super::{gateway, node, registry, routes};
use crate::config::Config;
use crate::ports::catalog::InProcessCatalog;
use crate::ports::{known_take_downs, pins, take_downs};
use crate::{telemetry, terminal};

/// Serves until SIGTERM or Ctrl-C, then drains. The admin key of the first start is also written to `admin_key_file`.
///
/// # Errors
/// What keeps the server from starting; after that, what breaks the listener.
pub(crate) async fn run(config: Config, admin_key_file: Option<&Path>) -> anyhow::Result<()> {
    telemetry::start_logging(&config)?;
    let metrics = telemetry::start_metrics()?;
    let base = node::load_base(&config).await?;
    let registry = registry::open(&config, vec![base.model.clone()]).await?;
    registry::show_first_key(&registry, admin_key_file).await?;
    let services = Services::start(&config, registry, base, metrics)?;
    known_take_downs::order(&services.registry, &services.gateway).await;

    let listener = TcpListener::bind(&config.server.listen)
        .await
        .with_context(|| format!("cannot listen on {}; is another server there?", config.server.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    // Scripts wait for this line: from here on requests are answered.
    terminal::line(&format!("listening on http://{address}"))?;
    services.serve(listener, stop_signal()?, config.server.drain_timeout).await
}

/// Everything that runs.
struct Services {
    gateway: Gateway,
    registry: Registry,
    node: Node,
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
            source: Arc::new(FolderSource::new(registry.objects_dir())),
        };
        let RunningNode { node, context_tokens } = node::start(config, base, ports)?;
        let mut tasks = vec![AbortOnDropHandle::new(tokio::spawn(metrics.clone().keep_up()))];
        tasks.extend(keep_pins(config, &registry, &queue, pool));
        let ports = gateway::Ports { catalog: Arc::new(InProcessCatalog(registry.clone())), queue, hub };
        let gateway = gateway::start(config, bases, context_tokens, ports, metrics)?;
        let take_downs = take_downs::carry(registry.take_downs(), gateway.clone());
        tasks.push(AbortOnDropHandle::new(tokio::spawn(take_downs)));
        Ok(Self { gateway, registry, node, _tasks: tasks })
    }

    /// Answers requests until `stop` resolves; then refuses new ones, lets running ones end within `drain_timeout`, and
    /// returns.
    async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
        drain_timeout: Duration,
    ) -> anyhow::Result<()> {
        let Self { gateway, registry, node, _tasks } = self;
        let router = routes::router(gateway.clone(), registry.clone());
        let (close, closed) = tokio::sync::oneshot::channel::<()>();
        // Tokens are small writes; without this each would wait for the client's acknowledgement of the last.
        let listener = listener.tap_io(|stream| {
            stream.set_nodelay(true).ok();
        });
        let server = axum::serve(listener, router).with_graceful_shutdown(async {
            closed.await.ok();
        });
        let drain = async move {
            stop.await;
            tracing::info!("Stopping: new requests are refused, running answers may end");
            // The port stays open while answers run, so that late requests hear 503 and not a broken connection.
            if tokio::time::timeout(drain_timeout, gateway.drain()).await.is_err() {
                tracing::warn!("Answers were still running after {drain_timeout:?} and are cut off");
                gateway.cut_off().await;
            }
            node.drain(drain_timeout).await;
            close.send(()).ok();
            // Idle connections would keep the server for as long as their clients like.
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        let ended = tokio::select! {
            ended = std::future::IntoFuture::into_future(server) => ended.context("the server broke"),
            () = drain => Ok(()),
        };
        registry.close().await;
        ended
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

fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}
