//! The one engine of a process, and the ticks that hooks yield at.
//!
//! The process that compiles has the same settings but for how memory is had: what it makes must fit, and [`EngineHash`] says so.

use std::fmt;
use std::hash::{Hash as _, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use souk_protocol::Digest;
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
};

use crate::limits::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES};
use crate::settings::HookSettings;

/// Time between two ticks: how long a hook runs until another has its turn.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a hook after which the clock sleeps.
const IDLE_TICKS: u32 = 100;
/// Stack that a hook's own functions may take.
const STACK_BYTES: usize = 512 << 10;
/// Stack of a call, of which what the hook leaves is for the host's functions that it calls: counting tokens is the deepest.
const CALL_STACK_BYTES: usize = 2 << 20;
/// What the pool keeps of a memory that was used, zeroed, so that the next need not ask the system for it.
const KEPT_BYTES: usize = 1 << 20;
/// Bytes that one core instance, or what the host knows of a component's instance, may take.
const MAX_INSTANCE_BYTES: usize = 4 << 20;

/// What a compiled hook fits to: another engine, or another version of it, refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EngineHash(Digest);

impl EngineHash {
    /// Of an engine.
    pub(crate) fn of(engine: &Engine) -> Self {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self(Digest::from_bytes(hasher.0.finalize().into()))
    }

    /// The hash of engines of this executable, without making one that runs.
    ///
    /// # Panics
    /// If the compiler does not know this processor, for which the executable was built.
    #[must_use]
    pub fn of_this_executable() -> Self {
        Self::of(&Engine::new(&compiling()).expect("the settings are of this executable"))
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for EngineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl FromStr for EngineHash {
    type Err = souk_protocol::digest::DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        format!("sha256:{text}").parse().map(Self)
    }
}

/// Hashes with SHA-256, which is the same in every build of the executable.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// The settings of a process that only compiles.
pub(crate) fn compiling() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // The same bits on every machine.
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .async_stack_size(CALL_STACK_BYTES)
        .memory_init_cow(true)
        // Traces have the names of functions without either, and what is kept of a hook is a fifth smaller.
        .generate_address_map(false)
        .native_unwind_info(false);
    without_what_hooks_need_not(&mut config);
    for_any_processor(&mut config);
    config
}

/// Less of the engine is less to find a way out of. What is compiled out is not named here.
fn without_what_hooks_need_not(config: &mut Config) {
    config
        // The interpreter of JS has them.
        .wasm_tail_call(true)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .wasm_relaxed_simd(false)
        // What the engine itself puts between the components of a component has two; intake takes none that have.
        .wasm_multi_memory(true)
        .wasm_memory64(false)
        .wasm_simd(true)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_extended_const(true)
        .shared_memory(false);
}

/// What one machine compiles must run on all: naming the target leaves out what only the compiling processor has.
fn for_any_processor(config: &mut Config) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        config.target(&target).expect("the executable was built for it");
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = config;
}

/// An engine that runs hooks: from a pool where the system gives the address space for it, which is faster, else without one.
///
/// # Errors
/// If there is no engine to be had in either way.
pub(crate) fn running(settings: &HookSettings) -> wasmtime::Result<Engine> {
    let mut config = compiling();
    let mut pooled = config.clone();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(settings)));
    match Engine::new(&pooled) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "There is no address space for a pool of hooks, so each gets its memory as it starts; `ulimit -v` bounds it"
            );
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Engine::new(&config)
        }
    }
}

fn pool(settings: &HookSettings) -> PoolingAllocationConfig {
    // A few more than can be let in, for those that are just ending.
    let num_hooks = settings.max_running + settings.max_streams + 16;
    let count = |per_hook: usize| u32::try_from(num_hooks.saturating_mul(per_hook)).unwrap_or(u32::MAX);
    let per_hook = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::default();
    pool.total_component_instances(count(1))
        .total_stacks(count(1))
        // Usual hooks have one to three of each; only those with an interpreter have as many as one may have.
        .total_core_instances(count(8))
        .total_memories(count(2))
        .total_tables(count(8))
        .max_core_instances_per_component(per_hook(MAX_INSTANCES))
        .max_memories_per_component(per_hook(MAX_MEMORIES))
        .max_tables_per_component(per_hook(MAX_TABLES))
        .max_component_instance_size(MAX_INSTANCE_BYTES)
        .max_core_instance_size(MAX_INSTANCE_BYTES)
        .max_memory_size(settings.ceiling.memory_bytes)
        .table_elements(settings.ceiling.max_table_elements)
        .linear_memory_keep_resident(KEPT_BYTES)
        // What a hook has not written need not be zeroed, where the system says which pages that is.
        .pagemap_scan(Enabled::Auto)
        .table_keep_resident(KEPT_BYTES);
    pool
}

/// What has the engine's epoch grow while hooks run.
pub(crate) struct Ticker {
    running: Arc<AtomicUsize>,
    thread: Thread,
}

/// Held while a hook runs.
pub(crate) struct Ticking(Arc<AtomicUsize>);

impl Ticker {
    /// Begins a thread that ends with the engine.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let (engine, running) = (engine.weak(), Arc::new(AtomicUsize::new(0)));
        let watched = Arc::clone(&running);
        let thread = std::thread::Builder::new()
            .name("souk-hook-ticks".to_owned())
            .spawn(move || tick(&engine, &watched))?
            .thread()
            .clone();
        Ok(Self { running, thread })
    }

    /// Has ticks come as long as the answer is held.
    pub(crate) fn begin(&self) -> Ticking {
        // Whoever sleeps does so at 0 alone, and looks again when woken.
        if self.running.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        Ticking(Arc::clone(&self.running))
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.thread.unpark();
    }
}

fn tick(engine: &EngineWeak, running: &AtomicUsize) {
    let mut idle_ticks = 0;
    loop {
        std::thread::sleep(TICK);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        idle_ticks = if running.load(Ordering::Acquire) == 0 { idle_ticks + 1 } else { 0 };
        drop(engine);
        if idle_ticks >= IDLE_TICKS {
            // A wake-up that came since is kept, so none is missed.
            std::thread::park();
            idle_ticks = 0;
        }
    }
}
