//! The engine in process, on the real model: tokens per second of the base and with many different adapters, where the
//! time of a step goes, what a step of more rows costs, what speculation brings, what users get, how soon a cancelled
//! answer is gone. Prints Markdown tables.
//!
//! `cargo bench -p souk-bench --bench engine [-- --quick] [--rounds COUNT] [--json FILE] [--only NAME,NAME]` with the
//! names of [`SECTIONS`] and [`PARTS`], which only run where they are named. `SOUK_BENCH_THREADS` sets the compute
//! threads. The model must be in the cache (`make models`). The machine may be shared, so what counts are the ratios
//! within one sitting.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]
#![expect(clippy::disallowed_methods, reason = "a benchmark is set up by its environment")]

mod cancel;
mod driver;
#[path = "../options.rs"]
mod options;
mod profile;
mod random;
mod rows;
mod throughput;
mod users;

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};
use souk_engine::EngineConfig;
use souk_models::base::LlamaWeights;
use souk_models::llama::{KvBudget, LlamaRunner, RunnerConfig};
use souk_protocol::BaseModel;

use self::driver::Driver;
use self::options::{Options, load_base};
use self::random::AdapterSet;

const KV_POOL_MB: usize = 256;

/// A name and what prints the tables under it and returns their figures.
type Section = (&'static str, fn(&Bench) -> Value);

/// Measured in this order.
const SECTIONS: [Section; 7] = [
    ("throughput", throughput::all),
    ("contexts", throughput::long_contexts),
    ("rows", rows::measure),
    ("speculation", throughput::speculation),
    ("profile", profile::measure),
    ("cancel", cancel::measure),
    ("users", users::measure),
];
/// Parts of `throughput`, for comparing with others in turns.
const PARTS: [Section; 2] = [("base", throughput::base), ("decode16", throughput::decode_16)];

fn main() {
    let options = Options::read();
    let started = Instant::now();
    let loaded = load_base();
    let load_ms = started.elapsed().as_millis();
    let sets = random::adapter_sets(&loaded.model.shape);
    let bench = Bench { model: loaded.model, weights: Arc::new(loaded.weights), sets, options };
    let options = &bench.options;
    let isa = format!("{:?}", bench.runner().isa());
    let is_whole = options.only.is_none();
    if is_whole {
        println!("Loading and packing the model: {load_ms} ms");
        println!("Threads: {}; instruction set: {isa}; rounds: {}\n", options.num_threads, bench.rounds());
    }
    let mut figures =
        Map::from_iter([("threads".to_owned(), json!(options.num_threads)), ("isa".to_owned(), json!(isa))]);
    let named_parts = PARTS.iter().filter(|(name, _)| !is_whole && options.wants(name));
    for (name, measure) in SECTIONS.iter().filter(|(name, _)| options.wants(name)).chain(named_parts) {
        figures.insert((*name).to_owned(), measure(&bench));
    }
    if is_whole {
        println!("Peak memory: {} MiB, of which a KV pool may take {KV_POOL_MB} MiB", peak_memory_kib() / 1024);
    }
    options.write(&Value::Object(figures));
}

/// What every section measures.
struct Bench {
    model: BaseModel,
    weights: Arc<LlamaWeights>,
    /// The first is the base without adapters.
    sets: Vec<AdapterSet>,
    options: Options,
}

impl Bench {
    /// How often every figure is taken.
    fn rounds(&self) -> u32 {
        self.options.rounds(3)
    }

    /// The model with a pool of its own.
    fn runner(&self) -> LlamaRunner {
        let config = RunnerConfig {
            max_rows: 512,
            max_logit_rows: 64,
            kv: KvBudget::Bytes(KV_POOL_MB << 20),
            num_threads: self.options.num_threads,
            isa: None,
        };
        LlamaRunner::new(Arc::clone(&self.weights), &config).expect("the runner is set up")
    }

    /// An engine without drafts and without a prefix cache, so that each token is a row that is computed.
    fn plain_engine(&self) -> Driver {
        let config = EngineConfig { prefix_cache: false, max_speculative_tokens: 0, ..wide() };
        Driver::start(self.runner(), config, &self.model)
    }

    /// An engine that speculates and is otherwise as plain.
    fn speculating_engine(&self) -> Driver {
        let config = EngineConfig { prefix_cache: false, ..wide() };
        Driver::start(self.runner(), config, &self.model)
    }

    /// An engine with the settings that a server has by default.
    fn server_engine(&self) -> Driver {
        Driver::start(self.runner(), EngineConfig::default(), &self.model)
    }
}

/// Bounds that are in nothing's way.
fn wide() -> EngineConfig {
    EngineConfig { max_batch_tokens: 512, max_sequences: 64, max_requests: 128, ..EngineConfig::default() }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}
