//! The data plane's other half: a node, which runs a base model with adapters.

use std::sync::Arc;

use anyhow::Context as _;
use souk_engine::Engine;
use souk_engine::constraint::ConstraintCompiler;
use souk_engine::device_memory::{DeviceMemory, PAGE_BYTES, Side};
use souk_models::base::{self, BaseSource, FetchConfig, LoadProgress, LoadedBase};
use souk_models::llama::{KvBudget, LlamaRunner, RunnerConfig};
use souk_node::adapters::{AdapterSource, AdapterStore, DiskTier, Tiers};
use souk_node::node::{Node, NodeConfig};
use souk_protocol::{BaseModel, NodeId, PoolId};
use souk_queue::{EventSinks, JobQueue};

use crate::config::Config;
use crate::terminal::ProgressBars;

/// What a node calls.
pub(crate) struct Ports {
    /// Where jobs come from.
    pub(crate) queue: Arc<dyn JobQueue>,
    /// Where their events go.
    pub(crate) events: Arc<dyn EventSinks>,
    /// Where adapters' files come from.
    pub(crate) source: Arc<dyn AdapterSource>,
}

/// A node at work.
pub(crate) struct RunningNode {
    /// The loop that claims jobs.
    pub(crate) node: Node,
    /// The longest context that it takes: the model's own, or less where the floor of the KV side cannot hold one such.
    pub(crate) context_tokens: usize,
}

/// Reads the base model of the settings, fetching it first where need be.
///
/// # Errors
/// If it cannot be fetched, or is no base model that nodes run.
pub(crate) async fn load_base(config: &Config) -> anyhow::Result<LoadedBase> {
    load_base_telling(config, |_| {}).await
}

/// The same, telling what is being done.
///
/// # Errors
/// As [`load_base`].
pub(crate) async fn load_base_telling(
    config: &Config,
    tell: impl Fn(LoadProgress) + Send + 'static,
) -> anyhow::Result<LoadedBase> {
    let source: BaseSource = config.model.source.parse().context("model.source is not a base model")?;
    let fetch = FetchConfig::new(config.data.cache_folder()?);
    let name = config.model.source.clone();
    let loaded = tokio::task::spawn_blocking(move || {
        let mut bars = ProgressBars::new(&name);
        let loaded = base::load(&source, &fetch, &mut |progress| {
            tell(progress);
            bars.show(progress);
        });
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

/// Starts a node of that name that runs `base`.
///
/// # Errors
/// If the settings do not fit together or to the model.
pub(crate) fn start(config: &Config, base: LoadedBase, node: NodeId, ports: Ports) -> anyhow::Result<RunningNode> {
    let LoadedBase { model, weights } = base;
    let (model, weights) = (Arc::new(model), Arc::new(weights));
    let caps = (config.engine.kv_cache_bytes, Some(config.adapters.device_cap_bytes()));
    let memory = DeviceMemory::new(config.memory.divided(caps.0, caps.1))
        .context("the settings of [memory] do not fit together")?;
    let runner_config = RunnerConfig {
        max_rows: config.engine.max_batch_tokens,
        max_logit_rows: config.engine.max_logit_rows.min(config.engine.max_batch_tokens),
        kv: KvBudget::Bytes(memory.most(Side::Kv) * PAGE_BYTES),
        num_threads: config.engine.num_threads(),
        isa: None,
    };
    let runner = LlamaRunner::new(Arc::clone(&weights), &runner_config).context("cannot set up the model")?;
    let (engine, _thread) =
        Engine::start(memory.clone(), Box::new(runner), config.engine).context("cannot start the engine")?;
    let context_tokens = engine.limits().context_length;
    anyhow::ensure!(context_tokens > 0, "memory.kv_floor_mb does not hold a single block of K and V; raise it");
    let limits = config.adapters.limits(memory.most(Side::Adapters) * PAGE_BYTES);
    let tiers = Tiers { memory, disk: open_disk_tier(config, &model)? };
    let adapters = AdapterStore::new(ports.source, Arc::clone(&model), weights, limits, tiers)
        .context("the settings of [adapters] do not fit together")?;
    let constraints =
        ConstraintCompiler::with_threads(Arc::clone(&model), config.constraints, souk_node::stand_back_somewhat);
    let node_config = NodeConfig { node, ..NodeConfig::new(PoolId(model.digest)) };
    let node = Node::start(node_config, ports.queue, ports.events, adapters, engine, constraints);
    Ok(RunningNode { node, context_tokens })
}

/// The disk tier, if it is wanted and its folder can be used: a cache is no reason not to start.
fn open_disk_tier(config: &Config, model: &BaseModel) -> anyhow::Result<Option<DiskTier>> {
    if config.adapters.disk_bytes == 0 {
        return Ok(None);
    }
    let folder = config.data.packed_adapters()?;
    let tier = DiskTier::open(&folder, config.adapters.disk_bytes, model.digest, model.shape);
    if let Err(error) = &tier {
        tracing::warn!(%error, folder = %folder.display(), "Packed adapters are not kept on disk");
    }
    Ok(tier.ok())
}
