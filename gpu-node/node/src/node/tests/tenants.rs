//! One property over the gates of queue, node, adapter store and engine, all of them the real ones: whatever one tenant
//! does, another's single small request has its answer begun within two seconds. The model is scripted, and time is
//! virtual: a step of the model takes [`STEP`], and time goes on only when no thread has anything left to do.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::json;
use souk_protocol::Fetchable;
use souk_queue::QueueError;
use tokio::time::Instant;

use super::*;
use crate::adapters::samples::SIZE_PER_RANK;
use crate::adapters::{AdapterFiles, AdapterSource, SourceError};
use crate::background;

/// How soon an answer is to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(2);
/// What a step of the model takes.
const STEP: Duration = Duration::from_millis(20);
/// How far time goes on before the threads are looked at.
const TICK: Duration = Duration::from_millis(5);
/// Steps within which a request that needs no adapter has its first token.
const FIRST_TOKEN_STEPS: u64 = 4;
/// What the device has for adapters, eight pages: rank 224 leaves the reserve, of which rank 16 is small.
const DEVICE_RANKS: usize = 8 * PAGE_BYTES / SIZE_PER_RANK;

/// Lets the model run one step at a time.
#[derive(Default)]
struct Pacer {
    state: Mutex<Paced>,
    changed: Condvar,
}

#[derive(Default)]
struct Paced {
    /// The engine has a step that it may not run yet.
    waits: bool,
    may_run: bool,
    is_over: bool,
    num_steps: u64,
}

impl Pacer {
    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.waits = true;
        while !state.may_run && !state.is_over {
            state = self.changed.wait(state).unwrap();
        }
        state.waits = false;
        state.may_run = false;
        state.num_steps += 1;
    }

    /// Lets the step run that waits, if one does.
    fn step(&self) {
        let mut state = self.state.lock().unwrap();
        state.may_run = state.waits;
        self.changed.notify_all();
    }

    fn waits(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.waits && !state.may_run
    }

    fn num_steps(&self) -> u64 {
        self.state.lock().unwrap().num_steps
    }
}

struct PacedRunner(ScriptedRunner, Arc<Pacer>);

impl ModelRunner for PacedRunner {
    fn limits(&self) -> RunnerLimits {
        self.0.limits()
    }

    fn run(&mut self, step: &Step) -> Result<StepOutput<'_>, RunnerError> {
        self.1.wait();
        self.0.run(step)
    }

    fn block_bytes(&self) -> usize {
        self.0.block_bytes()
    }
}

/// Adapters with what reading each of them takes; `None` never ends.
struct SlowSource(HashMap<Digest, (AdapterFiles, Option<Duration>)>);

#[async_trait]
impl AdapterSource for SlowSource {
    async fn fetch(&self, Fetchable { digest, .. }: &Fetchable, _: u64) -> Result<AdapterFiles, SourceError> {
        let (files, takes) = self.0.get(digest).ok_or(SourceError::NotFound(*digest))?;
        match takes {
            Some(takes) => tokio::time::sleep(*takes).await,
            None => std::future::pending().await,
        }
        Ok(files.clone())
    }
}

/// What kind of adapters a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// The one that the innocent tenant asks for too.
    Shared,
    Small,
    /// Three of them fill what one tenant may have.
    Large,
    /// One of them does.
    Huge,
    TooLarge,
    Slow,
    /// Its load never ends.
    Never,
}

/// Every kind with its rank, how many there are, and what reading one takes.
const KINDS: [(Kind, usize, usize, Option<u64>); 7] = [
    (Kind::Shared, 8, 1, Some(50)),
    (Kind::Small, 8, 40, Some(20)),
    (Kind::Large, 72, 6, Some(100)),
    (Kind::Huge, 224, 2, Some(100)),
    (Kind::TooLarge, 240, 1, Some(100)),
    (Kind::Slow, 1, 10, Some(5000)),
    (Kind::Never, 1, 40, None),
];

#[derive(Clone, Debug)]
enum Act {
    /// The greedy tenant sends so many requests, each with one adapter of each kind, one after the other.
    Flood { requests: usize, prompt: usize, answer: u32, adapters: Vec<Kind> },
    /// It goes away from its requests: every so manieth.
    Leave { every: usize, says_so: bool },
    /// Time passes.
    Pass { ms: u64 },
    /// The innocent tenant asks once, for the base model or a small adapter.
    Ask { adapter: Option<Kind> },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let kind = || prop::sample::select(KINDS.map(|(kind, ..)| kind).to_vec());
    let prompt = prop_oneof![1usize..8, 300usize..900];
    let answer = prop_oneof![1u32..4, 50u32..400];
    let adapters = prop_oneof![
        2 => Just(Vec::new()),
        4 => kind().prop_map(|kind| vec![kind]),
        1 => prop::collection::vec(kind(), 2..4),
    ];
    let act = prop_oneof![
        6 => (1usize..300, prompt, answer, adapters)
            .prop_map(|(requests, prompt, answer, adapters)| Act::Flood { requests, prompt, answer, adapters }),
        1 => (1usize..4, any::<bool>()).prop_map(|(every, says_so)| Act::Leave { every, says_so }),
        2 => (0u64..1500).prop_map(|ms| Act::Pass { ms }),
        4 => prop_oneof![Just(None), Just(Some(Kind::Shared))].prop_map(|adapter| Act::Ask { adapter }),
    ];
    prop::collection::vec(act, 1..9)
}

/// A node with its queue, and two tenants.
struct Market {
    pool: Pool,
    node: Node,
    pacer: Arc<Pacer>,
    adapters: HashMap<Kind, Vec<Digest>>,
    num_asked: usize,
    greedy: Vec<Answer>,
    next_step: Instant,
}

impl Market {
    fn open() -> Self {
        let pool = Pool { queue: Arc::new(MemoryQueue::new(QueueConfig::default())), ..Pool::new() };
        let limits =
            RunnerLimits { max_rows: 48, max_logit_rows: 48, num_blocks: 128, vocab_size: VOCAB, context_length: 1024 };
        let pacer = Arc::new(Pacer::default());
        let runner = PacedRunner(ScriptedRunner::new(limits, Script::default()), Arc::clone(&pacer));
        let memory = DeviceMemory::split(limits.num_blocks * PAGE_BYTES, PAGE_BYTES).unwrap();
        let config = EngineConfig { max_sequences: 8, max_requests: 24, ..EngineConfig::default() };
        let (engine, _thread) = Engine::start(memory, Box::new(runner), config).unwrap();
        let (mut files, mut adapters) = (HashMap::new(), HashMap::new());
        for (index, (kind, rank, count, takes)) in KINDS.into_iter().enumerate() {
            let made = (0..count).map(|number| adapter_files(rank, &json!({"lora_alpha": 100 * index + number + 1})));
            let made: Vec<_> = made.map(|files| (files.manifest.digest(), files)).collect();
            adapters.insert(kind, made.iter().map(|(digest, _)| *digest).collect());
            files.extend(made.into_iter().map(|(digest, one)| (digest, (one, takes.map(Duration::from_millis)))));
        }
        let limits = AdapterLimits {
            device_bytes: DEVICE_RANKS * SIZE_PER_RANK,
            host_bytes: DEVICE_RANKS * SIZE_PER_RANK,
            ..AdapterLimits::default()
        };
        let tiers = Tiers { memory: ample_memory(), disk: None };
        let source = Arc::new(SlowSource(files));
        let store = AdapterStore::new(source, Arc::new(base()), Arc::new(weights()), limits, tiers).unwrap();
        let constraints = ConstraintCompiler::new(Arc::new(base()), ConstraintLimits::default());
        let events = Arc::new(pool.hub.clone());
        let node_config = NodeConfig::new(pool_id());
        let node = Node::start(node_config, Arc::clone(&pool.queue), events, store, engine, constraints);
        Self { pool, node, pacer, adapters, num_asked: 0, greedy: Vec::new(), next_step: Instant::now() + STEP }
    }

    async fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match act {
            Act::Flood { requests, prompt, answer, adapters } => {
                for _ in 0..*requests {
                    let job = self.job("greedy", *prompt, *answer, adapters);
                    if let Ok(answer) = self.submit(job).await {
                        self.greedy.push(answer);
                    }
                }
            }
            Act::Leave { every, says_so } => {
                for at in (0..self.greedy.len()).rev().step_by(*every) {
                    let left = self.greedy.swap_remove(at);
                    if *says_so {
                        self.pool.queue.cancel(pool_id(), &left.id).await.unwrap();
                    }
                }
            }
            Act::Pass { ms } => {
                let until = Instant::now() + Duration::from_millis(*ms);
                while Instant::now() < until {
                    self.tick().await;
                }
            }
            Act::Ask { adapter } => self.ask(*adapter).await?,
        }
        Ok(())
    }

    async fn ask(&mut self, adapter: Option<Kind>) -> Result<(), TestCaseError> {
        let (asked_at, asked_in_step) = (Instant::now(), self.pacer.num_steps());
        let job = self.job("innocent", 6, 2, adapter.as_slice());
        let mut answer = self.submit(job).await.map_err(|error| TestCaseError::fail(format!("refused: {error}")))?;
        while !begun(&mut answer)? {
            let waited = asked_at.elapsed();
            prop_assert!(waited <= BEGINS_WITHIN, "nothing within {waited:?}: {:?}", self.node.shared.adapters.stats());
            self.tick().await;
        }
        let num_steps = self.pacer.num_steps() - asked_in_step;
        prop_assert!(adapter.is_some() || num_steps <= FIRST_TOKEN_STEPS, "first token after {num_steps} steps");
        while !answer.ended_by_now() {
            self.tick().await;
        }
        Ok(())
    }

    fn job(&mut self, tenant: &str, prompt: usize, max_tokens: u32, adapters: &[Kind]) -> GenerateJob {
        self.num_asked += 1;
        let number = self.num_asked;
        let prompt: Vec<_> = (0..prompt).map(|place| ((place * 7 + number) % 60) as TokenId).collect();
        let digests = adapters.iter().map(|kind| &self.adapters[kind]).map(|of_kind| of_kind[number % of_kind.len()]);
        let digests: Vec<_> = digests.collect();
        GenerateJob { tenant: TenantId::from_stored(tenant), ..job(&prompt, max_tokens, &digests) }
    }

    async fn submit(&self, job: GenerateJob) -> Result<Answer, QueueError> {
        let events = self.pool.hub.subscribe(job.id.clone(), EventHub::capacity_for(&job));
        let (id, reply_to) = (job.id.clone(), self.pool.gateway.clone().into());
        let submission =
            Submission { job, lane: None, reply_to, priority: Priority::ORDINARY, account: None, attempts: 0 };
        self.pool.queue.submit(submission).await?;
        Ok(Answer { id, events, tokens: Vec::new() })
    }

    /// Lets time go on, once no thread has anything left to do.
    async fn tick(&mut self) {
        tokio::time::sleep(TICK).await;
        self.quiet().await;
        if Instant::now() >= self.next_step {
            self.next_step = Instant::now() + STEP;
            self.pacer.step();
            self.quiet().await;
        }
    }

    async fn quiet(&self) {
        loop {
            tokio::task::yield_now().await;
            let engine_is_quiet = self.pacer.waits() || self.node.shared.held_jobs.num_in_engine() == 0;
            if engine_is_quiet && background::num_running() == 0 {
                return;
            }
            std::thread::sleep(Duration::from_micros(20));
        }
    }
}

impl Drop for Market {
    fn drop(&mut self) {
        self.pacer.state.lock().unwrap().is_over = true;
        self.pacer.changed.notify_all();
    }
}

/// Whether the first token is there.
fn begun(answer: &mut Answer) -> Result<bool, TestCaseError> {
    while let Some((_, event)) = answer.events.try_next() {
        match event {
            JobEvent::Tokens { .. } => return Ok(true),
            JobEvent::Failed(failure) => return Err(TestCaseError::fail(format!("failed: {failure}"))),
            _ => {}
        }
    }
    Ok(false)
}

fn run(acts: &[Act]) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut market = Market::open();
        for act in acts {
            market.act(act).await?;
        }
        for adapter in [None, Some(Kind::Shared)] {
            market.ask(adapter).await?;
        }
        Ok(())
    })
}

#[test]
fn beside_three_large_adapters_in_long_answers_a_small_one_that_is_not_here_is_loaded() {
    let hold = Act::Flood { requests: 40, prompt: 4, answer: 900, adapters: vec![Kind::Large] };
    run(&[hold, Act::Pass { ms: 1000 }, Act::Ask { adapter: Some(Kind::Shared) }]).unwrap();
}

#[test]
fn beside_loads_that_never_end_anothers_adapter_is_loaded() {
    let load = |adapters| Act::Flood { requests: 60, prompt: 4, answer: 2, adapters };
    run(&[load(vec![Kind::Never]), load(vec![Kind::Never, Kind::Slow]), Act::Pass { ms: 100 }]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_one_tenant_does_the_answer_to_anothers_small_request_begins_within_two_seconds(acts in acts()) {
        run(&acts)?;
    }
}
