//! What hooks cost: a pair of calls on a request of 4 kB, a piece of a stream, compiling, and a thousand of them in memory. Prints Markdown
//! tables and, with `--json <path>`, writes the figures.
//!
//! `cargo bench -p souk-plugins --bench hooks -- [--quick] [--json <path>]`. The hook is `redact`, a Rust component that replaces words before and
//! after the model; what it gives back is looked at before anything is printed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use secrecy::SecretString;
use serde_json::{Value, json};
use souk_plugins::words::{
    Answer, AnswerOutcome, Ending, FinishReason, Opening, Piece, PromptOutcome, Request, Step, Usage,
};
use souk_plugins::{CallContext, Compiler, CountTokens, Hook, HookSettings, Host, SealingKey, Tier, compile_here};
use souk_protocol::gate::Weight;
use souk_protocol::{Digest, TenantId};
use tokio::task::JoinSet;

/// Text of a request, and of an answer.
const TEXT_BYTES: usize = 4096;
/// What the hook is told to replace.
const CONFIG: &str = r#"{"words": ["secret"]}"#;
/// Hooks that are to be in memory together.
const NUM_RESIDENT: u32 = 1000;

/// Counts nothing: no hook here asks.
struct NoTokens;

impl CountTokens for NoTokens {
    fn count(&self, _: &str) -> u32 {
        0
    }
}

struct Field {
    host: Host,
    key: SealingKey,
    settings: HookSettings,
    component: Bytes,
    context: CallContext,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let json = arguments.iter().position(|argument| argument == "--json").and_then(|at| arguments.get(at + 1));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let figures = runtime.block_on(measure(if is_quick { 200 } else { 20_000 }));
    if let Some(path) = json {
        std::fs::write(path, format!("{figures:#}\n")).expect("the file can be written");
    }
}

async fn measure(num_calls: usize) -> Value {
    let field = Field::new();
    let compile_ms = field.compile_to_first_call().await;
    let hook = field.load(&field.component).await;
    pairs(&hook, &field.context, 200, 1).await;
    println!("| prompt and answer on {TEXT_BYTES} bytes, fresh instances | 1 at once | 2 at once | 64 at once |");
    println!("| --- | ---: | ---: | ---: |");
    let mut rows = Vec::new();
    for at_once in [1, 2, 64] {
        rows.push(pairs(&hook, &field.context, num_calls, at_once).await);
    }
    let row = |what: &str, of: &dyn Fn(&Pairs) -> String| {
        println!("| {what} | {} |", rows.iter().map(of).collect::<Vec<_>>().join(" | "));
    };
    row("processor time of a pair, p50 (µs)", &|pairs| format!("{:.1}", pairs.processor_us(0.5)));
    row("processor time of a pair, p99 (µs)", &|pairs| format!("{:.1}", pairs.processor_us(0.99)));
    row("processor time of the process for a pair (µs)", &|pairs| format!("{:.1}", pairs.process_us));
    row("time of a pair, p50 (µs)", &|pairs| format!("{:.1}", pairs.wall_us(0.5)));
    row("time of a pair, p99 (µs)", &|pairs| format!("{:.1}", pairs.wall_us(0.99)));
    row("pairs a second", &|pairs| format!("{:.0}", pairs.rate));
    row("refused", &|pairs| pairs.num_refused.to_string());
    let piece = pieces(&hook, &field.context, num_calls).await;
    let compiled_kb = compile_here(&field.component, &field.key).expect("it compiles").len() as f64 / 1e3;
    let resident_mb = field.resident_mb(&field.component).await;
    let small = guest("redact-c");
    let small_resident_mb = field.resident_mb(&small).await;
    let growth_mb = growth_mb(&hook, &field.context, num_calls / 2).await;
    println!("\n| | |\n| --- | ---: |");
    println!("| a piece of a stream, processor time of the hook's thread (µs) | {:.2} |", piece.processor_us);
    println!("| a piece of a stream, processor time of the process (µs) | {:.2} |", piece.process_us);
    println!("| compiling apart until the first call has ended (ms) | {compile_ms:.0} |");
    println!(
        "| the component, and what is compiled of it (kB) | {:.0}, {:.0} |",
        field.component.len() as f64 / 1e3,
        compiled_kb
    );
    println!("| {NUM_RESIDENT} such hooks in memory (MB) | {resident_mb:.0} |");
    let small_kb = small.len() as f64 / 1e3;
    println!("| {NUM_RESIDENT} hooks of {small_kb:.0} kB, by a compiler of C (MB) | {small_resident_mb:.0} |");
    println!("| memory that {} calls left behind (MB) | {growth_mb:.1} |", num_calls / 2);
    json!({
        "pairs": rows.iter().map(Pairs::figures).collect::<Vec<_>>(),
        "piece": {"processor_us": piece.processor_us, "process_us": piece.process_us},
        "component_bytes": field.component.len(),
        "compiled_kb": compiled_kb,
        "compile_to_first_call_ms": compile_ms,
        "resident_mb": resident_mb,
        "small_resident_mb": small_resident_mb,
        "growth_mb": growth_mb,
    })
}

impl Field {
    fn new() -> Self {
        let component = guest("redact");
        let (settings, key) = (HookSettings::default(), SealingKey::new(SecretString::from("for a benchmark alone")));
        let context = CallContext {
            tenant: TenantId::from_stored("tenant"),
            weight: Weight::USUAL,
            limits: settings.limits,
            may_log: false,
            config: Arc::from(CONFIG),
            variables: Arc::new(BTreeMap::new()),
            clock_s: 0,
            seed: 0,
            tokens: Arc::new(NoTokens),
        };
        let mut wide = settings.clone();
        // One tenant alone asks here.
        wide.max_running_per_tenant = wide.max_running;
        let host = Host::start(&wide, key.clone()).expect("a host");
        Self { host, key, settings, component, context }
    }

    async fn load(&self, component: &Bytes) -> Arc<Hook> {
        let sealed = compile_here(component, &self.key).expect("it compiles");
        self.host.load(&Digest::of(component), async { Ok(sealed) }).await.expect("it fits")
    }

    /// The best of five, child process included.
    async fn compile_to_first_call(&self) -> f64 {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_compile-hook"));
        let compiler = Compiler::new(program, Vec::new(), self.settings.clone(), self.key.clone());
        let mut best = f64::INFINITY;
        for number in 0..5 {
            let component = self.variant(1_000_000 + number);
            let digest = Digest::of(&component);
            let began = Instant::now();
            let sealed = compiler.compile(&self.context.tenant, Tier::Usual, &component).await.expect("it compiles");
            let hook = self.host.load(&digest, async { Ok(sealed) }).await.expect("it fits");
            hook.prompt(&self.context, request()).await.expect("it runs");
            best = best.min(began.elapsed().as_secs_f64() * 1e3);
            self.host.forget(&digest);
        }
        best
    }

    /// The same hook under another digest: with a section that says nothing.
    fn variant(&self, number: u32) -> Bytes {
        let mut component = self.component.to_vec();
        component.extend_from_slice(&[0, 6, 1, b'n']);
        component.extend_from_slice(&number.to_le_bytes());
        component.into()
    }

    async fn resident_mb(&self, component: &Bytes) -> f64 {
        // What each costs beside the bytes that were read to make it: those are gone when it is loaded.
        let before = resident_bytes();
        let compiled = compile_here(component, &self.key).expect("it compiles");
        let opened = self.key.open(&compiled, &Digest::of(component), &self.host.engine_hash());
        let head = compiled.len() - opened.expect("it is sealed").len();
        let mut kept = Vec::new();
        for number in 0..NUM_RESIDENT {
            let digest = Digest::of(&number.to_le_bytes());
            let sealed = self.key.seal(&digest, &self.host.engine_hash(), &compiled[head..]);
            let hook = self.host.load(&digest, async { Ok(sealed) }).await.expect("it fits");
            hook.prompt(&self.context, request()).await.expect("it runs");
            kept.push((digest, hook));
        }
        let taken = resident_bytes().saturating_sub(before);
        for (digest, _) in kept {
            self.host.forget(&digest);
        }
        taken as f64 / 1e6
    }
}

/// A component that is committed for the tests.
fn guest(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests").join(name).with_extension("wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).into()
}

fn sentence(bytes: usize) -> String {
    "What is not a secret may be said twice. ".repeat(bytes / 40 + 1)[..bytes].to_owned()
}

fn request() -> Request {
    serde_json::from_value(json!({
        "input": {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": sentence(TEXT_BYTES)}]},
        "parameters": {"temperature": 0.5, "max_tokens": 100},
    }))
    .expect("a request")
}

fn answer() -> Answer {
    serde_json::from_value(json!({"text": sentence(TEXT_BYTES)})).expect("an answer")
}

/// What some pairs of calls took.
struct Pairs {
    processor: Vec<Duration>,
    wall: Vec<Duration>,
    num_refused: usize,
    rate: f64,
    /// Processor time of the whole process, for each.
    process_us: f64,
}

impl Pairs {
    fn processor_us(&self, share: f64) -> f64 {
        percentile_us(&self.processor, share)
    }

    fn wall_us(&self, share: f64) -> f64 {
        percentile_us(&self.wall, share)
    }

    fn figures(&self) -> Value {
        json!({
            "processor_p50_us": self.processor_us(0.5), "processor_p99_us": self.processor_us(0.99),
            "p50_us": self.wall_us(0.5), "p99_us": self.wall_us(0.99),
            "pairs_per_s": self.rate, "refused": self.num_refused, "process_us": self.process_us,
        })
    }
}

/// Times in order.
fn percentile_us(times: &[Duration], share: f64) -> f64 {
    let at = (times.len() as f64 * share) as usize;
    times[at.min(times.len() - 1)].as_secs_f64() * 1e6
}

async fn pairs(hook: &Arc<Hook>, context: &CallContext, num_calls: usize, at_once: usize) -> Pairs {
    let (began, spent_before) = (Instant::now(), process_time());
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let (hook, context) = (Arc::clone(hook), context.clone());
        callers.spawn(async move {
            let (mut times, mut num_refused) = (Vec::new(), 0);
            for _ in 0..num_calls.div_ceil(at_once) {
                match pair(&hook, &context).await {
                    Some(time) => times.push(time),
                    None => num_refused += 1,
                }
            }
            (times, num_refused)
        });
    }
    let came = callers.join_all().await;
    let (took, spent) = (began.elapsed().as_secs_f64(), process_time() - spent_before);
    let num_refused = came.iter().map(|(_, refused)| refused).sum();
    let times: Vec<_> = came.into_iter().flat_map(|(times, _)| times).collect();
    let (mut processor, mut wall): (Vec<_>, Vec<_>) = times.into_iter().unzip();
    processor.sort_unstable();
    wall.sort_unstable();
    let process_us = spent.as_secs_f64() * 1e6 / wall.len() as f64;
    Pairs { rate: wall.len() as f64 / took, process_us, processor, wall, num_refused }
}

/// Processor time and time in all of a pair; `None` if it was refused.
async fn pair(hook: &Hook, context: &CallContext) -> Option<(Duration, Duration)> {
    let (request, answer) = (request(), answer());
    let began = Instant::now();
    let (prompted, first) = hook.prompt(context, request).await.ok()?;
    let (answered, second) = hook.answer(context, answer).await.ok()?;
    let took = began.elapsed();
    assert!(matches!(prompted, PromptOutcome::Rewritten(_)), "{prompted:?}");
    assert!(matches!(answered, AnswerOutcome::Replaced(text) if !text.contains("secret")));
    Some((first.processor + second.processor, took))
}

struct PieceCost {
    processor_us: f64,
    process_us: f64,
}

async fn pieces(hook: &Hook, context: &CallContext, num_pieces: usize) -> PieceCost {
    let mut context = context.clone();
    context.limits.max_stream_fuel = u64::MAX >> 1;
    context.limits.stream_processor = Duration::from_secs(3600);
    let (mut stream, _) = hook.open_stream(&context, Opening::default()).await.expect("it opens");
    let (began, mut processor) = (process_time(), Duration::ZERO);
    for _ in 0..num_pieces {
        let piece = Piece { text: " a word".to_owned(), tokens: Vec::new() };
        let (step, measured) = stream.push(piece).await.expect("it goes on");
        assert!(matches!(step, Step::Send(_)), "{step:?}");
        processor += measured.processor;
    }
    let spent = process_time() - began;
    let ending = Ending { finish_reason: FinishReason::Stop, usage: Usage::default() };
    stream.finish(ending).await.expect("it ends");
    let each = |time: Duration| time.as_secs_f64() * 1e6 / num_pieces as f64;
    PieceCost { processor_us: each(processor), process_us: each(spent) }
}

async fn growth_mb(hook: &Arc<Hook>, context: &CallContext, num_calls: usize) -> f64 {
    pairs(hook, context, num_calls / 4, 8).await;
    let before = resident_bytes();
    pairs(hook, context, num_calls, 8).await;
    resident_bytes().saturating_sub(before) as f64 / 1e6
}

/// What the process has in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number of pages") * 4096
}

/// Processor time of all threads.
fn process_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
