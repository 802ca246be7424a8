//! What adapters cost while they come and go: loads from the source and from disk, the first token with a cold adapter,
//! the pace of others while adapters load, and more adapters than the device has room for. Prints Markdown tables.
//!
//! `cargo bench -p souk-bench --bench adapters [-- --quick] [--rounds COUNT] [--json FILE] [--only load,cold,pace,sweep,zipf]`;
//! `SOUK_BENCH_THREADS` sets the compute threads. The model must be in the cache (`make models`); adapters are made in
//! a temporary folder. What is compared runs in turns, round after round, and counts as a ratio within one sitting.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]
#![expect(clippy::disallowed_methods, reason = "a benchmark is set up by its environment")]

mod files;
#[path = "../options.rs"]
mod options;
mod users;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use souk_engine::device_memory::{DeviceMemory, PAGE_BYTES};
use souk_engine::{Engine, EngineConfig};
use souk_models::base::LlamaWeights;
use souk_models::llama::{KvBudget, LlamaRunner, RunnerConfig};
use souk_node::adapters::{AdapterLimits, AdapterSource as _, AdapterStore, DiskTier, FolderSource, Tiers};
use souk_protocol::{BaseModel, Digest, Fetchable, PoolId};

use self::files::{ALL_LINEAR, DORA, Kind, QUERY_VALUE, publish};
use self::options::{Options, load_base};
use self::users::{Answer, Length, Node, Served};

/// Adapters that the device has room for in the last two tables.
const ROOM: usize = 64;
const USERS: u64 = 32;
const SHORT: Length = Length { prompt_tokens: 32, max_tokens: 32 };

fn main() {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("threads can be started").block_on(Bench::new(options).run());
}

struct Bench {
    options: Options,
    base: Arc<BaseModel>,
    weights: Arc<LlamaWeights>,
    engine: Engine,
    folder: tempfile::TempDir,
    results: Map<String, Value>,
}

impl Bench {
    fn new(options: Options) -> Self {
        let loaded = load_base();
        let weights = Arc::new(loaded.weights);
        let config = RunnerConfig {
            max_rows: 256,
            max_logit_rows: 64,
            kv: KvBudget::Bytes(256 << 20),
            num_threads: options.num_threads,
            isa: None,
        };
        let runner = LlamaRunner::new(Arc::clone(&weights), &config).expect("the runner is set up");
        println!("Threads: {}; instruction set: {:?}\n", options.num_threads, runner.isa());
        let config = EngineConfig {
            max_batch_tokens: 256,
            max_sequences: 64,
            max_requests: 128,
            // Random prompts repeat nothing, and every token should cost the same.
            max_speculative_tokens: 0,
            prefix_cache: false,
            ..EngineConfig::default()
        };
        let memory = DeviceMemory::split(runner.kv_bytes(), PAGE_BYTES).expect("there is a page for each side");
        let (engine, _thread) = Engine::start(memory, Box::new(runner), config).expect("the engine starts");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self { options, base: Arc::new(loaded.model), weights, engine, folder, results: Map::new() }
    }

    async fn run(mut self) {
        if self.options.wants("load") {
            self.loads().await;
        }
        if self.options.wants("cold") {
            self.cold().await;
        }
        if self.options.wants("pace") {
            self.pace().await;
        }
        if self.options.wants("sweep") {
            self.sweep().await;
        }
        if self.options.wants("zipf") {
            self.zipf().await;
        }
        self.options.write(&Value::Object(self.results));
    }

    /// A node whose device and host memory have room for so many adapters of rank 8 on q and v.
    fn node(&self, room: usize, disk: Option<DiskTier>) -> Node {
        let bytes = room * self.size_bytes(QUERY_VALUE);
        let limits = AdapterLimits {
            device_bytes: bytes,
            host_bytes: bytes,
            max_concurrent_loads: 4,
            ..AdapterLimits::default()
        };
        let source = Arc::new(FolderSource::new(self.folder.path()));
        // Each adapter takes whole pages.
        let memory = DeviceMemory::split(1, bytes + room * PAGE_BYTES).expect("either side has pages");
        let tiers = Tiers { memory, disk };
        let (base, weights) = (Arc::clone(&self.base), Arc::clone(&self.weights));
        let store = AdapterStore::new(source, base, weights, limits, tiers).expect("the limits agree");
        let vocab_size = self.base.shape.vocab_size as u32;
        Node { engine: self.engine.clone(), store, pool: PoolId(self.base.digest), vocab_size }
    }

    fn disk(&self) -> DiskTier {
        let folder = self.folder.path().join("packed");
        DiskTier::open(&folder, 4 << 30, self.base.digest, self.base.shape).expect("the folder can be used")
    }

    fn size_bytes(&self, kind: Kind) -> usize {
        let pairs = kind.modules.iter().map(|module| {
            let (width, height) = (module.in_features(&self.base.shape), module.out_features(&self.base.shape));
            souk_kernels::cpu::LoraPair::packed_bytes(kind.rank, width, height, kind.is_dora)
        });
        self.base.shape.num_layers * pairs.sum::<usize>()
    }

    fn publish(&self, kind: Kind, first: u64, count: u64) -> Vec<Digest> {
        (first..first + count).map(|seed| publish(self.folder.path(), &self.base, kind, seed)).collect()
    }

    /// Loads all of them once, so that they are on disk.
    async fn write_to_disk(&self, adapters: &[Digest], disk: &DiskTier, room: usize) {
        let node = self.node(room, Some(disk.clone()));
        for digest in adapters {
            drop(node.store.acquire(digest).await.expect("the adapter is sound"));
            while !disk.has(digest) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn loads(&mut self) {
        let count = if self.options.quick { 8 } else { 40 };
        println!("| one load, median ms | read, hashed | + checked, packed | from disk tier |");
        println!("| --- | ---: | ---: | ---: |");
        for (at, kind) in [QUERY_VALUE, ALL_LINEAR, DORA].into_iter().enumerate() {
            let adapters = self.publish(kind, 1_000_000 * (at as u64 + 1), count);
            let source = FolderSource::new(self.folder.path());
            let fetched =
                async |digest: &Digest| drop(source.fetch(&Fetchable { digest: *digest, grant: None }, 1 << 30).await);
            let fetch = median(timed(&adapters, fetched).await);
            let node = self.node(40 * 20, None);
            let from_source = median(timed(&adapters, async |digest| drop(node.store.acquire(digest).await)).await);
            let disk = self.disk();
            self.write_to_disk(&adapters, &disk, 40 * 20).await;
            let node = self.node(40 * 20, Some(disk));
            let from_disk = median(timed(&adapters, async |digest| drop(node.store.acquire(digest).await)).await);
            println!("| {} | {} | {} | {} |", kind.label, ms(fetch), ms(from_source), ms(from_disk));
            let figures = json!({"fetch_ms": ms(fetch), "source_ms": ms(from_source), "disk_ms": ms(from_disk)});
            self.results.insert(format!("load {}", kind.label), figures);
        }
        println!();
    }

    async fn cold(&mut self) {
        let count = if self.options.quick { 8 } else { 40 };
        let adapters = self.publish(QUERY_VALUE, 0, count);
        let disk = self.disk();
        self.write_to_disk(&adapters, &disk, ROOM).await;
        let length = Length { max_tokens: 1, ..SHORT };
        println!("| first token, ms | median | p90 |");
        println!("| --- | ---: | ---: |");
        for (label, disk) in [("source", None), ("disk", Some(disk))] {
            let node = self.node(ROOM, disk);
            let (mut cold, mut warm) = (Vec::new(), Vec::new());
            for (seed, digest) in adapters.iter().enumerate() {
                cold.push(node.ask(Some(digest), length, seed as u64).await.first_token());
                warm.push(node.ask(Some(digest), length, seed as u64).await.first_token());
            }
            for (which, times) in [("cold", &cold), ("warm", &warm)] {
                let (middle, most) = (ms(median(times.clone())), ms(percentile(times.clone(), 90.0)));
                println!("| {which}, from {label} | {middle} | {most} |");
                self.results
                    .insert(format!("first token {which} {label}"), json!({"median_ms": middle, "p90_ms": most}));
            }
        }
        println!();
    }

    /// Eight running answers, and ten adapters a second that load and are not used.
    async fn pace(&mut self) {
        let (rounds, seconds) = (self.options.rounds(4), if self.options.quick { 2 } else { 4 });
        let adapters = self.publish(QUERY_VALUE, 0, 10 * seconds);
        let disk = self.disk();
        self.write_to_disk(&adapters, &disk, ROOM).await;
        let mut gaps = [("none", Vec::new()), ("from disk", Vec::new()), ("from source", Vec::new())];
        for _ in 0..rounds {
            for (at, (_, gaps)) in gaps.iter_mut().enumerate() {
                // Room for one, so that each load is one.
                let node = self.node(1, (at == 1).then(|| disk.clone()));
                let loads = (at > 0).then(|| tokio::spawn(load_at_a_pace(node.clone(), adapters.clone())));
                let length = Length { prompt_tokens: 32, max_tokens: 2000 };
                gaps.extend(self.gaps_of_running(&node, 8, length, Duration::from_secs(seconds)).await);
                loads.inspect(tokio::task::JoinHandle::abort);
            }
        }
        println!("| 10 loads a second | inter-token p50, ms | p99, ms | p99 against none |");
        println!("| --- | ---: | ---: | ---: |");
        let quiet = percentile(gaps[0].1.clone(), 99.0).as_secs_f64();
        for (label, gaps) in gaps {
            let p99 = percentile(gaps.clone(), 99.0);
            let ratio = round(p99.as_secs_f64() / quiet);
            println!("| {label} | {} | {} | {ratio} |", ms(median(gaps.clone())), ms(p99));
            let figures = json!({"p50_ms": ms(median(gaps)), "p99_ms": ms(p99), "p99_ratio": ratio});
            self.results.insert(format!("pace, loads {label}"), figures);
        }
        println!();
    }

    /// Gaps between tokens of so many base answers that run together for a while.
    async fn gaps_of_running(&self, node: &Node, count: u64, length: Length, time: Duration) -> Vec<Duration> {
        let running = (0..count).map(|seed| {
            let node = node.clone();
            tokio::spawn(async move { node.ask_for(time, length, seed).await })
        });
        let mut gaps = Vec::new();
        for answer in running.collect::<Vec<_>>() {
            let answer = answer.await.expect("an answer does not panic");
            // The first tokens come while others are still read in.
            gaps.extend(answer.tokens.windows(2).skip(20).map(|pair| pair[1] - pair[0]));
        }
        gaps
    }

    /// More and more adapters, each as likely, where the device has room for 64.
    async fn sweep(&mut self) {
        let rounds = self.options.rounds(2);
        let time = Duration::from_secs(if self.options.quick { 2 } else { 8 });
        let adapters = self.publish(QUERY_VALUE, 0, 256);
        let disk = self.disk();
        self.write_to_disk(&adapters, &disk, ROOM).await;
        let counts = [32, 64, 128, 256];
        let nodes = counts.map(|_| self.node(ROOM, Some(disk.clone())));
        let mut served = counts.map(|_| Served::default());
        for _ in 0..rounds {
            for (at, count) in counts.into_iter().enumerate() {
                let adapters = adapters[..count].to_vec();
                let choose = Arc::new(move |random: u64| adapters[(random % adapters.len() as u64) as usize]);
                served[at].add(nodes[at].serve(USERS, time, SHORT, choose).await);
            }
        }
        println!(
            "| {USERS} users over N adapters, room for {ROOM} | requests | loads | tokens/s | TTFT p50, ms | p99, ms |"
        );
        println!("| --- | ---: | ---: | ---: | ---: | ---: |");
        for (at, served) in served.iter().enumerate() {
            let loads = nodes[at].store.stats().totals.loads;
            self.report(&format!("N = {}", counts[at]), served, loads, time * rounds);
        }
        println!();
    }

    /// A thousand registered adapters, few of them popular, against 25 that are all resident.
    async fn zipf(&mut self) {
        let rounds = self.options.rounds(3);
        let time = Duration::from_secs(if self.options.quick { 2 } else { 8 });
        let count = if self.options.quick { 250 } else { 1000 };
        let adapters = self.publish(QUERY_VALUE, 0, count);
        let disk = self.disk();
        self.write_to_disk(&adapters, &disk, ROOM).await;
        let few = adapters[..25].to_vec();
        let uniform: Arc<dyn Fn(u64) -> Digest + Send + Sync> =
            Arc::new(move |random| few[(random % few.len() as u64) as usize]);
        let popular: Arc<dyn Fn(u64) -> Digest + Send + Sync> = Arc::new(zipf_over(adapters));
        let nodes = [(); 2].map(|()| self.node(ROOM, Some(disk.clone())));
        let mut served = [Served::default(), Served::default()];
        for _ in 0..rounds {
            for (at, choose) in [&uniform, &popular].into_iter().enumerate() {
                served[at].add(nodes[at].serve(USERS, time, SHORT, Arc::clone(choose)).await);
            }
        }
        println!("| {USERS} users, room for {ROOM} | requests | loads | tokens/s | TTFT p50, ms | p99, ms |");
        println!("| --- | ---: | ---: | ---: | ---: | ---: |");
        let labels = ["25 resident".to_owned(), format!("{count} registered, Zipf 1.0")];
        let mut rates = Vec::new();
        for (at, (label, served)) in labels.iter().zip(&served).enumerate() {
            rates.push(self.report(label, served, nodes[at].store.stats().totals.loads, time * rounds));
        }
        let ratio = round(rates[1] / rates[0]);
        println!("\nThe many have {ratio} of the tokens per second of the few.\n");
        self.results.insert("zipf against resident".to_owned(), json!(ratio));
    }

    /// Prints a row and returns tokens per second.
    fn report(&mut self, label: &str, served: &Served, loads: u64, time: Duration) -> f64 {
        let requests = served.answers.len();
        let first: Vec<_> = served.answers.iter().map(Answer::first_token).collect();
        let rate = served.num_tokens as f64 / time.as_secs_f64();
        let (p50, p99) = (ms(median(first.clone())), ms(percentile(first, 99.0)));
        println!("| {label} | {requests} | {loads} | {rate:.0} | {p50} | {p99} |");
        let figures = json!({
            "requests": requests, "loads": loads, "tokens_per_second": round(rate), "ttft_p50_ms": p50, "ttft_p99_ms": p99,
        });
        self.results.insert(label.to_owned(), figures);
        rate
    }
}

/// Has the adapters loaded one after the other, ten a second.
async fn load_at_a_pace(node: Node, adapters: Vec<Digest>) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    for digest in adapters.iter().cycle() {
        tick.tick().await;
        drop(node.store.acquire(digest).await.expect("the adapter is sound"));
    }
}

async fn timed(adapters: &[Digest], work: impl AsyncFn(&Digest)) -> Vec<Duration> {
    let mut times = Vec::new();
    for digest in adapters {
        let began = Instant::now();
        work(digest).await;
        times.push(began.elapsed());
    }
    times
}

/// The adapter at rank r with a likelihood of 1/r.
fn zipf_over(adapters: Vec<Digest>) -> impl Fn(u64) -> Digest + Send + Sync {
    let mut sums = Vec::with_capacity(adapters.len());
    let mut sum = 0.0;
    for rank in 1..=adapters.len() {
        sum += 1.0 / rank as f64;
        sums.push(sum);
    }
    move |random| {
        let point = (random >> 11) as f64 / (1u64 << 53) as f64 * sum;
        adapters[sums.partition_point(|sum| *sum < point).min(adapters.len() - 1)]
    }
}

fn median(times: Vec<Duration>) -> Duration {
    percentile(times, 50.0)
}

fn percentile(mut times: Vec<Duration>, percent: f64) -> Duration {
    times.sort();
    let at = (times.len() as f64 * percent / 100.0).ceil() as usize;
    times.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1000.0)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
