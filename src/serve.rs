//! `souk serve`: builds registry, queue, node and gateway in one process, wires their ports, serves them on one address
//! and drains on a signal.
//!
//! The order is: settings (already checked), database and model, services, address, requests. Nothing is bound before
//! everything else is known to be good.

use std::future::Future;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use souk_gateway::{Gateway, GatewayLimits, GatewayParts};
use souk_gpu_node::adapters::{AdapterLimits, AdapterStore, DiskTier, FolderSource, Tiers};
use souk_gpu_node::base::{self, BaseSource, FetchConfig, LoadedBase};
use souk_gpu_node::constraint::{ConstraintCompiler, ConstraintLimits};
use souk_gpu_node::engine::{Engine, EngineConfig};
use souk_gpu_node::memory::{DeviceMemory, MemoryConfig, PAGE_BYTES, Side, SideLimits};
use souk_gpu_node::model::{KvBudget, LlamaRunner, RunnerConfig};
use souk_gpu_node::node::{Node, NodeConfig};
use souk_protocol::{BaseModel, PoolId};
use souk_queue::{EventHub, JobQueue, MemoryQueue, QueueConfig};
use souk_registry::{Registry, RegistryConfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use crate::catalog::InProcessCatalog;
use crate::cli::ServeArgs;
use crate::config::{Config, LogFormat};
use crate::terminal::{self, ProgressBars};
use crate::{pins, routes};

/// The settings with the flags of `souk serve` over them.
pub(crate) fn with_flags(mut config: Config, flags: &ServeArgs) -> Config {
    if let Some(listen) = &flags.listen {
        config.server.listen.clone_from(listen);
    }
    if let Some(source) = &flags.model {
        config.model.source.clone_from(source);
    }
    if let Some(folder) = &flags.data_dir {
        config.data.dir = folder.display().to_string();
    }
    if let Some(threads) = flags.threads {
        config.engine.threads = threads;
    }
    config
}

/// Serves until SIGTERM or Ctrl-C, then drains.
///
/// # Errors
/// What keeps the server from starting; after that, what breaks the listener.
pub(crate) async fn run(config: Config, flags: ServeArgs) -> anyhow::Result<ExitCode> {
    start_logging(&config)?;
    let metrics = start_metrics()?;
    let base = load_base(&config).await?;
    let registry = open_registry(&config, &base).await?;
    if let Some(key) = registry.bootstrap().await.context("cannot make the first admin key")? {
        show_first_key(key.expose(), flags.admin_key_file.as_deref())?;
    }
    let services = Services::start(&config, registry, base, metrics)?;

    let listener = TcpListener::bind(&config.server.listen)
        .await
        .with_context(|| format!("cannot listen on {}; is another server there?", config.server.listen))?;
    let address = listener.local_addr().context("the listener has no address")?;
    // Scripts wait for this line: from here on requests are answered.
    terminal::line(&format!("listening on http://{address}"))?;
    services.serve(listener, stop_signal()?, Duration::from_secs(config.server.drain_timeout_s)).await?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that runs.
struct Services {
    gateway: Gateway,
    registry: Registry,
    node: Node,
    _pins: Option<AbortOnDropHandle<()>>,
}

impl Services {
    fn start(config: &Config, registry: Registry, base: LoadedBase, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let LoadedBase { model, weights } = base;
        let (model, weights) = (Arc::new(model), Arc::new(weights));
        let hub = EventHub::new();
        let queue: Arc<dyn JobQueue> = Arc::new(MemoryQueue::new(queue_config(config)));

        let memory =
            DeviceMemory::new(memory_config(config)).context("the settings of [memory] do not fit together")?;
        let runner = LlamaRunner::new(Arc::clone(&weights), &runner_config(config, &memory))
            .context("cannot set up the model")?;
        let (engine, _thread) = Engine::start_in(memory.clone(), Box::new(runner), engine_config(config))
            .context("cannot start the engine")?;
        // The model's own, or less where the floor of the KV side cannot hold one such context.
        let context_tokens = engine.limits().context_length;
        anyhow::ensure!(context_tokens > 0, "memory.kv_floor_mb does not hold a single block of K and V; raise it");
        let objects = Arc::new(FolderSource::new(registry.objects_dir()));
        let limits = adapter_limits(config, &memory);
        let tiers = Tiers { memory, disk: open_disk_tier(config, &model)? };
        let adapters = AdapterStore::new(objects, Arc::clone(&model), weights, limits, tiers)
            .context("the settings of [adapters] do not fit together")?;
        let pinned = config.adapters.pinned.clone();
        let pins = (!pinned.is_empty()).then(|| {
            let (queue, pool) = (Arc::clone(&queue), PoolId(model.digest));
            AbortOnDropHandle::new(tokio::spawn(pins::keep(pinned, registry.clone(), queue, pool)))
        });
        let node_config = NodeConfig::new(PoolId(model.digest));
        let constraints = ConstraintCompiler::new(Arc::clone(&model), constraint_limits(config));
        let events = Arc::new(hub.clone());
        let node = Node::start(node_config, Arc::clone(&queue), events, adapters, engine, constraints);

        let gateway = Gateway::new(GatewayParts {
            bases: vec![Arc::unwrap_or_clone(model)],
            catalog: Arc::new(InProcessCatalog(registry.clone())),
            queue,
            hub,
            metrics,
            limits: GatewayLimits { context_tokens: Some(context_tokens), ..gateway_limits(config) },
        })
        .context("the gateway cannot serve this base model")?;
        Ok(Self { gateway, registry, node, _pins: pins })
    }

    /// Answers requests until `stop` resolves; then refuses new ones, lets running ones end within `drain_timeout`, and
    /// returns.
    async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
        drain_timeout: Duration,
    ) -> anyhow::Result<()> {
        let Self { gateway, registry, node, _pins } = self;
        let router = routes::router(gateway.clone(), registry);
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
            }
            node.drain(drain_timeout).await;
            close.send(()).ok();
            // Idle connections would keep the server for as long as their clients like.
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        tokio::select! {
            ended = std::future::IntoFuture::into_future(server) => ended.context("the server broke"),
            () = drain => Ok(()),
        }
    }
}

fn start_logging(config: &Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.filter)
        .with_context(|| format!("log.filter is not a filter: {}", config.log.filter))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// Durations from 1 ms to about a minute, each bucket half as wide again as the last.
fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let seconds: Vec<f64> = (0..28).map(|power| 0.001 * 1.5_f64.powi(power)).collect();
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &seconds)
        .context("the histogram buckets are not valid")?
        .install_recorder()
        .context("cannot set up metrics")
        .inspect(|_| souk_gateway::metrics::describe())
}

async fn load_base(config: &Config) -> anyhow::Result<LoadedBase> {
    let source: BaseSource = config.model.source.parse().context("model.source is not a base model")?;
    let fetch = FetchConfig::new(config.cache_dir()?);
    let name = config.model.source.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let mut bars = ProgressBars::new(&name);
        let loaded = base::load(&source, &fetch, &mut |progress| bars.show(progress));
        bars.clear();
        loaded
    })
    .await
    .context("loading the base model panicked")?;
    let mut loaded = loaded.with_context(|| format!("cannot load the base model {}", config.model.source))?;
    if !config.model.id.is_empty() {
        loaded.model.id.clone_from(&config.model.id);
    }
    Ok(loaded)
}

async fn open_registry(config: &Config, base: &LoadedBase) -> anyhow::Result<Registry> {
    let mut registry = RegistryConfig::new(config.data_dir()?);
    registry.uploads.weights_bytes = config.registry.max_adapter_bytes;
    Registry::open_embedded(registry, vec![base.model.clone()]).await.context("cannot open the registry")
}

fn show_first_key(secret: &str, file: Option<&Path>) -> anyhow::Result<()> {
    terminal::line("This is the admin key. It is shown once; keep it:")?;
    terminal::line(&format!("  {secret}"))?;
    if let Some(path) = file {
        write_private(path, secret).with_context(|| format!("cannot write the admin key to {}", path.display()))?;
    }
    Ok(())
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
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

fn queue_config(config: &Config) -> QueueConfig {
    QueueConfig {
        queued_per_tenant: config.queue.max_queued_per_tenant,
        queued_per_pool: config.queue.max_queued,
        lease: Duration::from_secs(config.queue.lease_s),
        ..QueueConfig::default()
    }
}

fn memory_config(config: &Config) -> MemoryConfig {
    let cap = |megabytes: usize| (megabytes > 0).then_some(megabytes << 20);
    // What is on the device is in main memory too, so the host budget bounds the adapters' side as well.
    let adapters_cap = cap(config.adapters.device_mb).unwrap_or(config.adapters.host_mb << 20);
    MemoryConfig {
        total_bytes: config.memory.device_mb << 20,
        kv: SideLimits { floor_bytes: config.memory.kv_floor_mb << 20, cap_bytes: cap(config.engine.kv_cache_mb) },
        adapters: SideLimits { floor_bytes: config.memory.adapters_floor_mb << 20, cap_bytes: Some(adapters_cap) },
    }
}

fn runner_config(config: &Config, memory: &DeviceMemory) -> RunnerConfig {
    RunnerConfig {
        max_rows: config.engine.max_batch_tokens,
        max_logit_rows: config.engine.max_logit_rows.min(config.engine.max_batch_tokens),
        kv: KvBudget::Bytes(memory.most(Side::Kv) * PAGE_BYTES),
        num_threads: config.num_threads(),
        isa: None,
    }
}

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        max_sequences: config.engine.max_sequences,
        max_requests: config.engine.max_requests,
        max_rows: config.engine.max_batch_tokens,
        max_prefill_rows_beside_decode: config.engine.max_prefill_tokens_beside_decode,
        max_speculative_rows: if config.engine.speculation { config.engine.max_speculative_tokens } else { 0 },
        prefix_cache: config.engine.prefix_cache,
        max_adapter_bytes: config.engine.max_adapter_mb_per_step << 20,
    }
}

/// The disk tier, if it is wanted and its folder can be used: a cache is no reason not to start.
fn open_disk_tier(config: &Config, model: &BaseModel) -> anyhow::Result<Option<DiskTier>> {
    if config.adapters.disk_mb == 0 {
        return Ok(None);
    }
    let folder = config.packed_adapters_dir()?;
    let tier = DiskTier::open(&folder, config.adapters.disk_mb << 20, model.digest, model.shape);
    if let Err(error) = &tier {
        tracing::warn!(%error, folder = %folder.display(), "Packed adapters are not kept on disk");
    }
    Ok(tier.ok())
}

fn adapter_limits(config: &Config, memory: &DeviceMemory) -> AdapterLimits {
    AdapterLimits {
        device_bytes: memory.most(Side::Adapters) * PAGE_BYTES,
        host_bytes: config.adapters.host_mb << 20,
        max_prefetches: config.adapters.max_prefetches,
        max_concurrent_loads: config.adapters.max_concurrent_loads,
        max_wait: Duration::from_millis(config.adapters.max_wait_ms),
        ..AdapterLimits::default()
    }
}

pub(crate) fn constraint_limits(config: &Config) -> ConstraintLimits {
    let constraints = &config.constraints;
    ConstraintLimits {
        source_bytes: constraints.max_source_bytes,
        compile_time: Duration::from_millis(constraints.compile_timeout_ms),
        concurrent_compiles: constraints.max_concurrent_compiles,
        compile_work: constraints.max_compile_work,
        mask_work: constraints.max_mask_work,
        lexer_bytes: constraints.max_compiled_mb << 20,
        cached: constraints.max_cached,
        cached_bytes: constraints.max_cached_mb << 20,
    }
}

fn gateway_limits(config: &Config) -> GatewayLimits {
    GatewayLimits {
        constraint_bytes: config.constraints.max_source_bytes,
        constraint_choices: config.constraints.max_choices,
        body_bytes: config.gateway.max_body_bytes,
        in_flight_requests: config.gateway.max_in_flight,
        request_timeout: Duration::from_secs(config.gateway.request_timeout_s),
        ..GatewayLimits::default()
    }
}
