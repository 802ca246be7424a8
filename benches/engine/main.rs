//! Tokens per second of the engine in process: prefill, and decode at several batch sizes, for the base and with many
//! different adapters. Prints Markdown tables.
//!
//! `cargo bench --bench engine [-- --quick] [--profile] [--json FILE]`: `--profile` prints only where the time of a step
//! goes, `--json` writes every figure to a file. `SOUK_BENCH_THREADS` sets the compute threads. The model must be in the
//! cache (`make models`). The machine may be shared, so what counts are the ratios within one round.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]
#![expect(clippy::disallowed_methods, reason = "a benchmark is set up by its environment")]

mod profile;

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use serde_json::{Value, json};
use souk_gpu_node::adapters::{DeviceAdapter, LoraPair, SlabType};
use souk_gpu_node::base::{self, BaseSource, FetchConfig};
use souk_gpu_node::engine::{Engine, EngineConfig, EngineRequest, Generation};
use souk_gpu_node::model::{KvBudget, LlamaRunner, RunnerConfig};
use souk_protocol::{
    AdapterUse, Digest, GenerateJob, JobEvent, JobId, LlamaShape, PoolId, RequestId, SamplingParams, TenantId,
};
use souk_queue::{EventSink, Gone};

use self::profile::StepKind;

const DECODE_BATCHES: [usize; 4] = [1, 4, 16, 32];
const PREFILL_TOKENS: usize = 512;
const PROMPT_TOKENS: usize = 32;
/// Contexts at which one sequence decodes alone.
const LONG_CONTEXTS: [usize; 2] = [2048, 7900];
const KV_POOL_MB: usize = 256;

fn main() {
    let options = Options::read();
    let num_threads = std::env::var("SOUK_BENCH_THREADS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let source: BaseSource = "smollm2-135m-instruct".parse().expect("a known model");
    let started = Instant::now();
    let loaded = base::load(&source, &FetchConfig::new(cache_dir()), &mut |_| {}).expect("run: make models");
    println!("Loading and packing the model: {} ms", started.elapsed().as_millis());
    let shape = loaded.model.shape;
    let config = RunnerConfig {
        max_rows: 512,
        max_logit_rows: 64,
        kv: KvBudget::Bytes(KV_POOL_MB << 20),
        num_threads,
        isa: None,
    };
    let weights = Arc::new(loaded.weights);
    let mut runner = LlamaRunner::new(Arc::clone(&weights), &config).expect("the runner is set up");
    println!("Threads: {num_threads}; instruction set: {:?}; rounds: {}\n", runner.isa(), options.rounds);
    let sets = adapter_sets(&shape);
    let profiles = profile_steps(&mut runner, &sets, options.profile_steps);
    let mut figures = json!({ "threads": num_threads, "isa": format!("{:?}", runner.isa()), "profile": profiles });
    if !options.only_profile {
        // Nothing is guessed and nothing found again, so that each token is a row that is computed.
        let engine_config = EngineConfig {
            max_rows: 512,
            max_sequences: 64,
            max_requests: 128,
            prefix_cache: false,
            max_speculative_rows: 0,
            ..EngineConfig::default()
        };
        let (engine, thread) = Engine::start(Box::new(runner), engine_config).expect("the engine starts");
        let (pool, vocab_size) = (PoolId(loaded.model.digest), shape.vocab_size as u32);
        let bench = Bench { engine, pool, vocab_size, rounds: options.rounds };
        figures["throughput"] = throughput(&bench, &sets, &options);
        figures["long_contexts"] = long_contexts(&bench, &options);
        let plain = bench.copying_and_not(options.decode_tokens);
        bench.engine.drain();
        thread.join().expect("the engine ends well");
        let runner = LlamaRunner::new(weights, &config).expect("the runner is set up");
        let max_speculative_rows = EngineConfig::default().max_speculative_rows;
        let guessing = EngineConfig { max_speculative_rows, ..engine_config };
        let (engine, _thread) = Engine::start(Box::new(runner), guessing).expect("the engine starts");
        let guessing = Bench { engine, ..bench }.copying_and_not(options.decode_tokens);
        figures["guessing"] = print_guessing(plain, guessing);
        println!("Peak memory: {} MiB, of which the KV pool may take {KV_POOL_MB} MiB", peak_memory_kib() / 1024);
    }
    if let Some(path) = options.json {
        std::fs::write(&path, format!("{figures:#}\n")).expect("the file can be written");
    }
}

/// What the command line asks for.
struct Options {
    /// How often every figure is taken.
    rounds: usize,
    decode_tokens: u32,
    profile_steps: usize,
    only_profile: bool,
    json: Option<PathBuf>,
}

impl Options {
    fn read() -> Self {
        let arguments: Vec<String> = std::env::args().collect();
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        let json = arguments.iter().position(|argument| argument == "--json").and_then(|at| arguments.get(at + 1));
        let (rounds, decode_tokens, profile_steps) = if has("--quick") { (1, 16, 40) } else { (3, 64, 200) };
        let (only_profile, json) = (has("--profile"), json.map(PathBuf::from));
        Self { rounds, decode_tokens, profile_steps, only_profile, json }
    }
}

/// Adapters that are dealt out to the sequences in turn; none for the base.
struct AdapterSet {
    label: &'static str,
    adapters: Vec<Arc<DeviceAdapter>>,
}

fn adapter_sets(shape: &LlamaShape) -> Vec<AdapterSet> {
    let sets = [
        (0, 0, Targets::QueryValue, "none (base)"),
        (16, 8, Targets::QueryValue, "16 different, r=8 q,v"),
        (25, 8, Targets::QueryValue, "25 different, r=8 q,v"),
        (16, 16, Targets::AllLinear, "16 different, r=16 all linear"),
        (25, 16, Targets::AllLinear, "25 different, r=16 all linear"),
    ];
    let make = |(count, rank, targets, label)| AdapterSet {
        label,
        adapters: (0..count).map(|seed| random_adapter(shape, rank, targets, seed)).collect(),
    };
    sets.map(make).into()
}

/// Where the time of a step goes, beside what the machine can do.
fn profile_steps(runner: &mut LlamaRunner, sets: &[AdapterSet], num_steps: usize) -> Value {
    let limits = runner.measure_limits();
    println!(
        "Read bandwidth {:.1} GB/s, int8 peak {:.0} GOP/s, fork and join {:.2} us. Activations have two planes of int8, so \
         each weight counts as four operations per row.\n",
        limits.read_bytes_per_second / 1e9,
        limits.int8_operations_per_second / 1e9,
        limits.fork_join_seconds * 1e6
    );
    let steps = [
        ("decode 1", StepKind::Decode(1), 0),
        ("decode 16", StepKind::Decode(16), 0),
        ("decode 16, 16 different r=8 q,v", StepKind::Decode(16), 1),
        ("decode 16, 16 different r=16 all linear", StepKind::Decode(16), 3),
        ("prefill 512", StepKind::Prefill, 0),
    ];
    let tables = steps.map(|(label, kind, set)| {
        let profile = profile::profile(runner, &kind, &sets[set].adapters, num_steps);
        profile::print(label, &profile, &limits)
    });
    json!({
        "read_bytes_per_second": limits.read_bytes_per_second,
        "int8_operations_per_second": limits.int8_operations_per_second,
        "fork_join_seconds": limits.fork_join_seconds,
        "steps": tables,
    })
}

/// Tokens per second. Sets take turns within each round, so that what disturbs the machine falls on all of them.
fn throughput(bench: &Bench, sets: &[AdapterSet], options: &Options) -> Value {
    let num_figures = 1 + DECODE_BATCHES.len();
    let mut rounds: Vec<Vec<Vec<f64>>> = Vec::new();
    for _ in 0..options.rounds {
        rounds.push(sets.iter().map(|set| bench.row(&set.adapters, options.decode_tokens)).collect());
    }
    let names: Vec<String> = std::iter::once(format!("prefill {PREFILL_TOKENS}"))
        .chain(DECODE_BATCHES.map(|n| format!("decode {n}")))
        .collect();
    let table = |title: &str, digits: usize, figure: &dyn Fn(usize, usize) -> f64| {
        println!("| {title} | {} |\n| --- |{}", names.join(" | "), " ---: |".repeat(num_figures));
        let rows = sets.iter().enumerate().map(|(set, AdapterSet { label, .. })| {
            let figures: Vec<f64> = (0..num_figures).map(|at| figure(set, at)).collect();
            let cells: Vec<String> = figures.iter().map(|figure| format!("{figure:.digits$}")).collect();
            println!("| {label} | {} |", cells.join(" | "));
            json!({ "adapters": label, "figures": figures })
        });
        let rows: Vec<Value> = rows.collect();
        println!();
        rows
    };
    let best = |set: usize, at: usize| rounds.iter().map(|round| round[set][at]).fold(0.0, f64::max);
    let ratio = |set: usize, at: usize| median(rounds.iter().map(|round| round[set][at] / round[0][at]).collect());
    println!("Tokens per second, the best of the rounds; a decode figure is the sum over its sequences.\n");
    let best = table("adapters", 0, &best);
    println!("Relative to the base of the same round, the median of the rounds.\n");
    let ratios = table("adapters", 2, &ratio);
    json!({ "columns": names, "best": best, "median_ratios_to_base": ratios })
}

fn long_contexts(bench: &Bench, options: &Options) -> Value {
    println!("| context | decode 1, tokens per second |\n| ---: | ---: |");
    let rows = LONG_CONTEXTS.map(|context| {
        let rate = |_| bench.decode_after(context, options.decode_tokens);
        let best = (0..options.rounds).map(rate).fold(0.0, f64::max);
        println!("| {context} | {best:.0} |");
        json!({ "context": context, "decode_1": best })
    });
    println!();
    json!(rows)
}

/// What guessing ahead brings, and what it costs where nothing repeats.
fn print_guessing(plain: [f64; 2], guessing: [f64; 2]) -> Value {
    println!("| decode 1 | plain | guessing ahead |\n| --- | ---: | ---: |");
    let labels = ["an answer that copies its prompt", "an answer that does not repeat itself"];
    let rows: Vec<Value> = std::iter::zip(labels, std::iter::zip(plain, guessing))
        .map(|(label, (plain, guessing))| {
            println!("| {label} | {plain:.0} | {guessing:.0} |");
            json!({ "answer": label, "plain": plain, "guessing": guessing })
        })
        .collect();
    println!();
    json!(rows)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Bench {
    engine: Engine,
    pool: PoolId,
    vocab_size: u32,
    /// How often a figure is taken that is the best of several.
    rounds: usize,
}

impl Bench {
    /// Measures prefill and every batch size with these adapters dealt out in turn.
    fn row(&self, adapters: &[Arc<DeviceAdapter>], decode_tokens: u32) -> Vec<f64> {
        let decode = DECODE_BATCHES.map(|batch| self.decode(batch, adapters, decode_tokens));
        std::iter::once(self.prefill(adapters.first())).chain(decode).collect()
    }

    /// One sequence alone after a prompt of `context` tokens.
    fn decode_after(&self, context: usize, num_tokens: u32) -> f64 {
        let (sender, tokens) = mpsc::channel();
        let times = finish(self.submit(context, num_tokens, None, 0, sender), &tokens);
        let took = times[times.len() - 1] - times[0];
        (times.len() - 1) as f64 / took.as_secs_f64().max(1e-9)
    }

    fn prefill(&self, adapter: Option<&Arc<DeviceAdapter>>) -> f64 {
        let (sender, tokens) = mpsc::channel();
        let started = Instant::now();
        let generation = self.submit(PREFILL_TOKENS, 1, adapter, 0, sender);
        let at = finish(generation, &tokens)[0];
        PREFILL_TOKENS as f64 / (at - started).as_secs_f64()
    }

    /// From the moment when every sequence decodes to the moment when the first one ends.
    fn decode(&self, batch: usize, adapters: &[Arc<DeviceAdapter>], num_tokens: u32) -> f64 {
        let mut generations = Vec::new();
        let mut streams = Vec::new();
        for index in 0..batch {
            let (sender, tokens) = mpsc::channel();
            let adapter = (!adapters.is_empty()).then(|| &adapters[index % adapters.len()]);
            // Later sequences start later; each runs long enough to be there when the last one has started.
            generations.push(self.submit(PROMPT_TOKENS, num_tokens + 2 * batch as u32, adapter, index, sender));
            streams.push(tokens);
        }
        let times: Vec<Vec<Instant>> =
            generations.into_iter().zip(&streams).map(|(generation, tokens)| finish(generation, tokens)).collect();
        let from = times.iter().filter_map(|times| times.first()).max().expect("every sequence has a token");
        let to = times.iter().filter_map(|times| times.last()).min().expect("every sequence has a token");
        let count = times.iter().flatten().filter(|at| *at > from && *at <= to).count();
        count as f64 / to.saturating_duration_since(*from).as_secs_f64().max(1e-9)
    }

    /// Decodes one sequence whose prompt is a passage three times over, which the model goes on copying; and one that is
    /// drawn at a temperature at which hardly anything repeats.
    fn copying_and_not(&self, num_tokens: u32) -> [f64; 2] {
        let passage: Vec<u32> = (0..80).map(|at| self.token(7, at)).collect();
        let copying = self.job(passage.repeat(3), 2 * num_tokens);
        let mut varied = self.job(passage, 2 * num_tokens);
        varied.sampling = SamplingParams { temperature: 1.0, seed: 5, ..SamplingParams::greedy() };
        [copying, varied].map(|job| {
            let measure = || {
                let (sender, tokens) = mpsc::channel();
                let sink = Box::new(Clock(sender));
                let request = EngineRequest { job: job.clone(), adapters: Vec::new(), constraint: None, sink };
                let generation = self.engine.submit(request).unwrap_or_else(|rejected| panic!("{}", rejected.error));
                let times = finish(generation, &tokens);
                let took = times[times.len() - 1].saturating_duration_since(times[0]);
                (times.len() - 1) as f64 / took.as_secs_f64()
            };
            (0..self.rounds).map(|_| measure()).fold(0.0, f64::max)
        })
    }

    fn token(&self, seed: usize, at: usize) -> u32 {
        (hash((seed * 100_003 + at) as u64) % u64::from(self.vocab_size - 64)) as u32 + 64
    }

    fn job(&self, prompt: Vec<u32>, max_tokens: u32) -> GenerateJob {
        GenerateJob {
            id: JobId { request: RequestId::new(), index: 0 },
            tenant: TenantId::from_stored("bench"),
            pool: self.pool,
            prompt,
            resume: Vec::new(),
            adapters: Vec::new(),
            sampling: SamplingParams::greedy(),
            constraint: None,
            max_tokens,
            eos_tokens: Vec::new(),
            logprobs: None,
            prompt_logprobs: None,
            deadline_unix_ms: None,
        }
    }

    fn submit(
        &self,
        prompt_tokens: usize,
        max_tokens: u32,
        adapter: Option<&Arc<DeviceAdapter>>,
        seed: usize,
        sender: mpsc::Sender<Instant>,
    ) -> Generation {
        let adapters: Vec<_> = adapter.map(|adapter| (Arc::clone(adapter), 1.0)).into_iter().collect();
        let mut job = self.job((0..prompt_tokens).map(|at| self.token(seed, at)).collect(), max_tokens);
        job.adapters =
            adapters.iter().map(|(one, weight)| AdapterUse { digest: one.digest, weight: *weight }).collect();
        let sink = Box::new(Clock(sender));
        self.engine
            .submit(EngineRequest { job, adapters, constraint: None, sink })
            .unwrap_or_else(|rejected| panic!("refused: {}", rejected.error))
    }
}

/// Waits for the end and returns when each token came.
fn finish(mut generation: Generation, tokens: &mpsc::Receiver<Instant>) -> Vec<Instant> {
    let ended = futures::executor::block_on(generation.ended());
    ended.outcome.unwrap_or_else(|failure| panic!("{failure}"));
    tokens.try_iter().collect()
}

/// Notes when each token came.
struct Clock(mpsc::Sender<Instant>);

impl EventSink for Clock {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        match event {
            JobEvent::Tokens { tokens, .. } => {
                tokens.iter().try_for_each(|_| self.0.send(Instant::now())).map_err(|_| Gone)
            }
            JobEvent::Failed(failure) => panic!("{failure}"),
            _ => Ok(()),
        }
    }

    fn is_closed(&self) -> bool {
        false
    }
}

#[derive(Clone, Copy)]
enum Targets {
    QueryValue,
    AllLinear,
}

fn random_adapter(shape: &LlamaShape, rank: usize, targets: Targets, seed: u64) -> Arc<DeviceAdapter> {
    let mut adapter = DeviceAdapter::empty(Digest::of(&seed.to_le_bytes()), shape.num_layers);
    let (hidden, ffn) = (shape.hidden_size, shape.intermediate_size);
    let mut state = hash(seed + 1);
    let mut pair = |inputs: usize, outputs: usize| {
        let mut numbers = |count: usize| -> Vec<f32> {
            let mut next = || {
                state = hash(state);
                (state >> 40) as f32 / (1u64 << 24) as f32 * 0.02 - 0.01
            };
            (0..count).map(|_| next()).collect()
        };
        let (a, b) = (numbers(rank * inputs), numbers(outputs * rank));
        Some(LoraPair::pack(rank, inputs, outputs, &a, &b, 1.0, SlabType::Bf16).expect("the shapes agree"))
    };
    for layer in &mut adapter.layers {
        layer.q = pair(hidden, shape.query_size());
        layer.v = pair(hidden, shape.kv_size());
        if matches!(targets, Targets::AllLinear) {
            layer.k = pair(hidden, shape.kv_size());
            layer.o = pair(shape.query_size(), hidden);
            layer.gate = pair(hidden, ffn);
            layer.up = pair(hidden, ffn);
            layer.down = pair(ffn, hidden);
        }
    }
    adapter.size_bytes = adapter.measure_bytes();
    Arc::new(adapter)
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
fn hash(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn cache_dir() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    cache.or_else(home).expect("a home folder").join("souk")
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or_default()
}
