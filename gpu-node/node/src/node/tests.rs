//! The node between a real queue, a real event hub, a real adapter store and the real engine; only the model is
//! scripted.

mod orders;
mod tenants;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;
use souk_engine::EngineConfig;
use souk_engine::constraint::ConstraintLimits;
use souk_engine::device_memory::{DeviceMemory, PAGE_BYTES};
use souk_protocol::{
    AdapterUse, ConstraintSpec, Digest, FinishReason, GatewayId, GenerateJob, JobEvent, JobFailure, JobId, PoolId,
    RequestId, SamplingParams, TenantId, TokenId,
};
use souk_queue::{EventHub, MemoryQueue, NoticeKind, Priority, QueueConfig, Settlement, Submission, Subscription};
use souk_runner::scripted::{self, Script, ScriptedRunner, VOCAB};
use souk_runner::{ModelRunner, RunnerError, RunnerLimits, Step, StepOutput};

use super::*;
use crate::adapters::samples::{GatedSource, adapter_files, ample_memory, base, weights};
use crate::adapters::{AdapterLimits, DiskTier, Tiers};

const LEASE: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(10);

/// A pool with one queue, and nodes as a test starts them.
struct Pool {
    queue: Arc<dyn JobQueue>,
    hub: EventHub,
    gateway: GatewayId,
}

/// A node, what its model does, and where its adapters come from.
struct TestNode {
    node: Node,
    script: Script,
    source: Arc<GatedSource>,
    adapters: Vec<Digest>,
    _disk: tempfile::TempDir,
}

/// The scripted model at a pace that leaves time to meddle.
struct Slow(ScriptedRunner, Duration);

impl ModelRunner for Slow {
    fn limits(&self) -> RunnerLimits {
        self.0.limits()
    }

    fn run(&mut self, step: &Step) -> Result<StepOutput<'_>, RunnerError> {
        std::thread::sleep(self.1);
        self.0.run(step)
    }

    fn block_bytes(&self) -> usize {
        self.0.block_bytes()
    }
}

impl Pool {
    fn new() -> Self {
        let config = QueueConfig { lease: LEASE, heartbeat_timeout: LEASE, ..QueueConfig::default() };
        Self { queue: Arc::new(MemoryQueue::new(config)), hub: EventHub::new(), gateway: GatewayId::new() }
    }

    /// A node with two adapters, of which `num_open` can be fetched at once, that takes `step` for a step.
    fn node(&self, num_open: usize, step: Duration) -> TestNode {
        let limits =
            RunnerLimits { max_rows: 64, max_logit_rows: 8, num_blocks: 256, vocab_size: VOCAB, context_length: 1024 };
        let config = EngineConfig { max_sequences: 4, max_requests: 10, ..EngineConfig::default() };
        self.node_with(num_open, step, limits, config)
    }

    /// The same with these limits of its adapters.
    fn node_of(&self, num_open: usize, adapters: AdapterLimits) -> TestNode {
        let limits =
            RunnerLimits { max_rows: 64, max_logit_rows: 8, num_blocks: 256, vocab_size: VOCAB, context_length: 1024 };
        self.node_over(num_open, Duration::ZERO, limits, EngineConfig::default(), adapters)
    }

    fn node_with(&self, num_open: usize, step: Duration, limits: RunnerLimits, config: EngineConfig) -> TestNode {
        self.node_over(num_open, step, limits, config, AdapterLimits::default())
    }

    fn node_over(
        &self,
        num_open: usize,
        step: Duration,
        limits: RunnerLimits,
        config: EngineConfig,
        of_adapters: AdapterLimits,
    ) -> TestNode {
        let script = Script::default();
        let runner = Slow(ScriptedRunner::new(limits, script.clone()), step);
        let memory = DeviceMemory::split(limits.num_blocks * PAGE_BYTES, PAGE_BYTES).unwrap();
        let (engine, _thread) = Engine::start(memory, Box::new(runner), config).unwrap();
        let files = [1, 2].map(|rank| adapter_files(rank, &json!({})));
        let (source, adapters) = GatedSource::new(files, num_open);
        let source_of_store: Arc<dyn crate::adapters::AdapterSource> = Arc::<GatedSource>::clone(&source);
        let folder = tempfile::tempdir().unwrap();
        let disk = DiskTier::open(folder.path(), 1 << 20, base().digest, base().shape).unwrap();
        let tiers = Tiers { memory: ample_memory(), disk: Some(disk) };
        let (base_of_store, weights) = (Arc::new(base()), Arc::new(weights()));
        let store = AdapterStore::new(source_of_store, base_of_store, weights, of_adapters, tiers).unwrap();
        let config = NodeConfig { heartbeat_every: LEASE / 5, ..NodeConfig::new(pool_id()) };
        let constraints = ConstraintCompiler::new(Arc::new(base()), ConstraintLimits::default());
        let events = Arc::new(self.hub.clone());
        let node = Node::start(config, Arc::clone(&self.queue), events, store, engine, constraints);
        TestNode { node, script, source, adapters, _disk: folder }
    }

    async fn submit(&self, job: GenerateJob) -> Answer {
        let events = self.hub.subscribe(job.id.clone(), EventHub::capacity_for(&job));
        let id = job.id.clone();
        let reply_to = self.gateway.clone().into();
        let submission =
            Submission { job, lane: None, reply_to, priority: Priority::ORDINARY, account: None, attempts: 0 };
        self.queue.submit(submission).await.unwrap();
        Answer { id, events, tokens: Vec::new() }
    }

    async fn is_empty(&self) -> bool {
        let stats = self.queue.stats(pool_id()).await.unwrap();
        stats.queued + stats.running == 0
    }
}

/// What the gateway sees of a job.
struct Answer {
    id: JobId,
    events: Subscription,
    tokens: Vec<TokenId>,
}

impl Answer {
    /// The next event with its attempt; tokens are kept and must come without gap.
    async fn next(&mut self) -> (u32, JobEvent) {
        let event = tokio::time::timeout(SOON, self.events.next()).await.expect("an event comes").expect("in order");
        if let JobEvent::Tokens { offset, tokens } = &event.1 {
            assert_eq!(*offset as usize, self.tokens.len());
            self.tokens.extend(tokens.iter().map(|token| token.id));
        }
        event
    }

    /// Reads on until so many tokens are there.
    async fn tokens(&mut self, count: usize) -> u32 {
        loop {
            let (attempt, event) = self.next().await;
            assert!(!event.is_last(), "{event:?}");
            if self.tokens.len() >= count {
                return attempt;
            }
        }
    }

    /// Whether its last event is there; reads all that are.
    fn ended_by_now(&mut self) -> bool {
        std::iter::from_fn(|| self.events.try_next()).any(|(_, event)| event.is_last())
    }

    async fn end(&mut self) -> (u32, JobEvent) {
        loop {
            let (attempt, event) = self.next().await;
            if event.is_last() {
                return (attempt, event);
            }
        }
    }
}

fn pool_id() -> PoolId {
    PoolId(base().digest)
}

fn job(prompt: &[TokenId], max_tokens: u32, adapters: &[Digest]) -> GenerateJob {
    GenerateJob {
        id: JobId { request: RequestId::new(), index: 0 },
        tenant: TenantId::from_stored("tenant"),
        pool: pool_id(),
        prompt: prompt.to_vec(),
        resume: Vec::new(),
        adapters: adapters.iter().map(|digest| AdapterUse { digest: *digest, weight: 1.0, grant: None }).collect(),
        sampling: SamplingParams::greedy(),
        constraint: None,
        max_tokens,
        eos_tokens: Vec::new(),
        logprobs: None,
        prompt_logprobs: None,
        time_left: None,
    }
}

fn finished(event: &JobEvent) -> FinishReason {
    match event {
        JobEvent::Finished { reason, .. } => *reason,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < SOON, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn jobs_are_claimed_answered_and_settled() {
    let pool = Pool::new();
    let _node = pool.node(9, Duration::ZERO);
    let mut answers = Vec::new();
    for number in 0..20 {
        answers.push((number, pool.submit(job(&[number, 7], 5, &[])).await));
    }
    for (number, answer) in &mut answers {
        assert_eq!(finished(&answer.end().await.1), FinishReason::Length);
        assert_eq!(answer.tokens, scripted::answer(&[*number, 7], &[], 5));
    }
    until("all are settled", async || pool.is_empty().await).await;
}

#[tokio::test]
async fn a_cold_adapter_delays_its_own_job_only() {
    let pool = Pool::new();
    let TestNode { node: _node, source, adapters, script, .. } = pool.node(0, Duration::ZERO);
    let mut cold = pool.submit(job(&[1, 2], 3, &adapters)).await;
    until("the loads wait", async || source.num_fetches() == 2).await;
    let mut base_only = pool.submit(job(&[1, 2], 3, &[])).await;
    assert_eq!(finished(&base_only.end().await.1), FinishReason::Length);
    assert!(cold.events.try_next().is_none());
    source.gate.add_permits(2);
    assert_eq!(finished(&cold.end().await.1), FinishReason::Length);
    assert_ne!(cold.tokens, base_only.tokens, "the adapters act");
    assert!(script.adapter_runs.lock().unwrap().iter().any(|step| step == "0..2x2"), "both, in one run");
}

#[tokio::test]
async fn a_cold_adapters_request_is_overtaken_by_no_more_than_what_was_in_the_engine() {
    let pool = Pool::new();
    let node = pool.node(0, Duration::from_millis(3));
    let mut cold = pool.submit(job(&[1, 2], 3, &node.adapters[..1])).await;
    until("the load waits", async || node.source.num_fetches() == 1).await;
    let mut warm = Vec::new();
    for number in 0..60 {
        warm.push(pool.submit(job(&[number], 20, &[])).await);
    }
    warm[3].end().await;
    node.source.gate.add_permits(1);
    let adapters = &node.node.shared.adapters;
    until("it is leased", async || adapters.stats().resident.iter().any(|adapter| adapter.users > 0)).await;
    // Those that end from here on and before it: it is one of those that the engine holds, and none that came after it
    // to the engine comes before it.
    let mut count_ended = || warm.iter_mut().map(Answer::ended_by_now).filter(|is_over| *is_over).count();
    count_ended();
    cold.end().await;
    let (num_ended, num_held) = (count_ended(), node.node.shared.engine.max_requests());
    assert!(num_ended < num_held, "{num_ended} came before it, of which the engine can hold {num_held}");
}

#[tokio::test]
async fn a_node_full_of_one_tenants_work_starts_anothers_first_at_once() {
    let pool = Pool::new();
    let node = pool.node(9, Duration::from_millis(1));
    let mut flood = Vec::new();
    for number in 0..30 {
        flood.push(pool.submit(job(&[number], 300, &[])).await);
    }
    until("the node is full", async || node.node.shared.wish().max_jobs == 0).await;
    let mut other = job(&[7], 3, &[]);
    other.tenant = TenantId::from_stored("other");
    let mut other = pool.submit(other).await;
    assert_eq!(finished(&other.end().await.1), FinishReason::Length);
    assert!(!flood.iter_mut().any(Answer::ended_by_now), "no answer of the flood had to end first");
}

#[tokio::test]
async fn a_short_request_begins_within_four_steps_on_a_node_that_holds_twenty_long_prompts() {
    let pool = Pool::new();
    let limits =
        RunnerLimits { max_rows: 48, max_logit_rows: 48, num_blocks: 546, vocab_size: VOCAB, context_length: 8192 };
    let node = pool.node_with(9, Duration::from_millis(20), limits, EngineConfig::default());
    let mut flood = Vec::new();
    for number in 0..20 {
        let prompt: Vec<TokenId> = (0..8000).map(|place| (place * 7 + number) % 60).collect();
        flood.push(pool.submit(job(&prompt, 100, &[])).await);
    }
    let engine = &node.node.shared.engine;
    until("the node holds them all", async || {
        node.node.shared.held_jobs.len() == 20 && engine.stats().num_running > 0 && engine.stats().num_waiting > 0
    })
    .await;
    assert_eq!(node.node.shared.wish().max_newcomers, 4, "whatever the one tenant holds");
    let mut steps = Vec::new();
    for number in 0..9 {
        let before = engine.stats().num_steps;
        let tenant = TenantId::from_stored(format!("other {}", number % 2));
        let mut other = pool.submit(GenerateJob { tenant, ..job(&[7, 8, 9, 10, 11, 12], 3, &[]) }).await;
        other.tokens(1).await;
        steps.push(engine.stats().num_steps - before);
        other.end().await;
    }
    println!("beside 20 prompts of 8,000 tokens: first token of 6 tokens after {steps:?} steps");
    steps.sort_unstable();
    assert!(steps[steps.len() / 2] <= 4, "{steps:?}; single ones may be late on a busy machine");
    assert!(!flood.iter_mut().any(Answer::ended_by_now));
}

#[tokio::test]
async fn a_node_that_is_drained_hands_over_what_it_runs_with_all_that_was_sent() {
    let pool = Pool::new();
    let pool_of = |_: &JobId| Some(pool_id());
    let failover = souk_queue::take_back_losses(pool.hub.losses(), Arc::clone(&pool.queue), pool_of, |_| {});
    let failover = tokio::spawn(failover);
    let first = pool.node(9, Duration::from_millis(3));
    let mut answer = pool.submit(job(&[1], 60, &[])).await;
    answer.tokens(5).await;
    first.node.drain(Duration::ZERO).await;
    while let Some((_, event)) = answer.events.try_next() {
        let JobEvent::Tokens { tokens, .. } = event else { panic!("{event:?}") };
        answer.tokens.extend(tokens.iter().map(|token| token.id));
    }
    let claim = Claim { pool: pool_id(), node: NodeId::new(), max_jobs: 1, max_newcomers: 0 };
    let delivery = pool.queue.claim(claim).await.unwrap().remove(0);
    assert_eq!((delivery.job.resume, delivery.lease.attempt), (answer.tokens.clone(), 2));
    pool.queue.settle(pool_id(), &delivery.lease, Settlement::GiveBack).await.unwrap();
    let _second = pool.node(9, Duration::ZERO);
    assert_eq!(finished(&answer.end().await.1), FinishReason::Length);
    assert_eq!(answer.tokens, scripted::answer(&[1], &[], 60));
    failover.abort();
}

#[tokio::test]
async fn an_adapter_that_cannot_be_had_fails_the_job_with_the_reason() {
    let pool = Pool::new();
    let _node = pool.node(9, Duration::ZERO);
    let mut answer = pool.submit(job(&[1], 3, &[Digest::of(b"no such adapter")])).await;
    let (_, event) = answer.end().await;
    assert!(matches!(&event, JobEvent::Failed(JobFailure::Adapter(reason)) if reason.contains("there is no adapter")));
    until("it is settled", async || pool.is_empty().await).await;
}

#[tokio::test]
async fn an_adapter_without_weight_does_nothing_even_if_it_cannot_be_had() {
    let pool = Pool::new();
    let _node = pool.node(9, Duration::ZERO);
    let mut off = job(&[1], 3, &[Digest::of(b"no such adapter")]);
    off.adapters[0].weight = 0.0;
    let mut answer = pool.submit(off).await;
    assert_eq!(finished(&answer.end().await.1), FinishReason::Length);
    assert_eq!(answer.tokens, scripted::answer(&[1], &[], 3));
}

#[tokio::test]
async fn an_adapter_that_is_not_loaded_in_time_is_told_as_a_matter_of_time() {
    let pool = Pool::new();
    let limits = AdapterLimits { max_wait: Duration::from_millis(50), ..AdapterLimits::default() };
    let node = pool.node_of(0, limits);
    let (_, event) = pool.submit(job(&[1], 3, &node.adapters[..1])).await.end().await;
    let JobEvent::Failed(JobFailure::AdapterBusy(reason)) = event else { panic!("{event:?}") };
    assert!(reason.contains("not loaded within 5"), "{reason}");
}

#[tokio::test]
async fn adapters_that_never_fit_are_told_with_bytes_and_limit() {
    let pool = Pool::new();
    let limits = AdapterLimits { device_bytes: 200, host_bytes: 200, ..AdapterLimits::default() };
    let node = pool.node_of(9, limits);
    // The second time its load is not tried, and the reason is the same.
    for _ in 0..2 {
        let (_, event) = pool.submit(job(&[1], 3, &node.adapters[1..])).await.end().await;
        let JobEvent::Failed(JobFailure::TooLarge { unit, needed, available }) = event else { panic!("{event:?}") };
        assert_eq!((unit.as_str(), needed, available), ("bytes of room for adapters", 256, 200));
    }
}

#[tokio::test]
async fn a_broken_adapter_ends_its_own_requests_alone_and_is_tried_again_after_a_pause() {
    let pool = Pool::new();
    let node = pool.node(9, Duration::from_millis(5));
    let mut running = pool.submit(job(&[1, 2], 400, &node.adapters[..1])).await;
    running.tokens(1).await;
    let broken = [Digest::of(b"broken")];
    let num_fetches = node.source.num_fetches();
    let mut reasons = Vec::new();
    for _ in 0..3 {
        let (_, event) = pool.submit(job(&[1], 3, &broken)).await.end().await;
        let JobEvent::Failed(JobFailure::Adapter(reason)) = event else { panic!("{event:?}") };
        reasons.push(reason);
    }
    assert_eq!(node.source.num_fetches(), num_fetches + 1, "the pause spares the source");
    assert!(reasons[1].contains("next attempt in") && reasons[1].ends_with(&reasons[0]), "{reasons:?}");
    tokio::time::sleep(AdapterLimits::default().first_retry_pause).await;
    pool.submit(job(&[1], 3, &broken)).await.end().await;
    assert_eq!(node.source.num_fetches(), num_fetches + 2);
    assert_eq!(finished(&running.end().await.1), FinishReason::Length);
}

#[tokio::test]
async fn while_there_is_no_room_the_adapters_of_the_next_jobs_are_brought_nearer() {
    let pool = Pool::new();
    let node = pool.node(9, Duration::from_millis(5));
    let mut running = Vec::new();
    for _ in 0..8 {
        running.push(pool.submit(job(&[1], 900, &[])).await);
    }
    running[0].tokens(1).await;
    let mut next = pool.submit(job(&[1], 3, &node.adapters[..1])).await;
    until("its adapter is here", async || !node.node.shared.adapters.stats().resident.is_empty()).await;
    assert!(next.events.try_next().is_none(), "and it still waits");
    for answer in &running {
        pool.queue.cancel(pool_id(), &answer.id).await.unwrap();
    }
    assert_eq!(finished(&next.end().await.1), FinishReason::Length);
    let totals = node.node.shared.adapters.stats().totals;
    assert_eq!((totals.prefetch_hits, totals.device_hits, totals.loads), (1, 1, 1));
}

#[tokio::test]
async fn a_constraint_that_we_cannot_prepare_for_is_not_the_clients_fault() {
    let pool = Pool::new();
    // The sample model's tokenizer has no bytes for its tokens.
    let _node = pool.node(9, Duration::ZERO);
    let constrained = GenerateJob { constraint: Some(Arc::new(ConstraintSpec::JsonObject)), ..job(&[1], 3, &[]) };
    let (attempt, event) = pool.submit(constrained).await.end().await;
    let JobEvent::Failed(JobFailure::Internal(reason)) = event else { panic!("{event:?}") };
    assert!(attempt == 1 && reason.contains("the vocabulary cannot be prepared"), "{reason}");
    let mut free = pool.submit(job(&[1], 3, &[])).await;
    assert_eq!(finished(&free.end().await.1), FinishReason::Length);
}

#[tokio::test]
async fn what_can_never_fit_is_told_to_the_client() {
    let pool = Pool::new();
    let _node = pool.node(9, Duration::ZERO);
    let (_, event) = pool.submit(job(&[1; 1024], 1, &[])).await.end().await;
    assert!(matches!(event, JobEvent::Failed(JobFailure::TooLarge { needed: 1025, available: 1024, .. })));
}

#[tokio::test]
async fn a_cancelled_job_leaves_the_batch_within_fifty_milliseconds() {
    let pool = Pool::new();
    let node = pool.node(0, Duration::from_millis(5));
    let mut running = pool.submit(job(&[1], 900, &[])).await;
    let mut loading = pool.submit(job(&[1], 900, &node.adapters)).await;
    running.tokens(3).await;
    until("the loads wait", async || node.source.num_fetches() == 2).await;
    let asked = Instant::now();
    for answer in [&mut running, &mut loading] {
        pool.queue.cancel(pool_id(), &answer.id).await.unwrap();
        assert_eq!(finished(&answer.end().await.1), FinishReason::Cancelled);
    }
    assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
    until("both are settled", async || pool.is_empty().await).await;
}

#[tokio::test]
async fn a_job_whose_reader_left_leaves_the_batch() {
    let pool = Pool::new();
    let _node = pool.node(9, Duration::from_millis(2));
    let mut answer = pool.submit(job(&[1], 900, &[])).await;
    answer.tokens(2).await;
    drop(answer);
    until("it is settled", async || pool.is_empty().await).await;
}

#[tokio::test]
async fn leases_are_renewed_while_the_job_runs() {
    let pool = Pool::new();
    let _node = pool.node(9, Duration::from_millis(10));
    let mut answer = pool.submit(job(&[1], 120, &[])).await;
    let started = Instant::now();
    assert_eq!(answer.end().await.0, 1, "the first attempt is the only one");
    assert!(started.elapsed() > LEASE * 3);
}

#[tokio::test]
async fn a_node_lost_in_mid_answer_is_not_seen_by_the_client() {
    let pool = Pool::new();
    let lost = pool.node(9, Duration::from_millis(5));
    let mut answer = pool.submit(job(&[4, 5], 300, &lost.adapters[..1])).await;
    // Many times as long as a lease, so that the lost node cannot get to the end on a busy machine.
    answer.tokens(5).await;
    // As good as dead: it claims nothing, reports nothing, and its job's lease runs out. Its batch still runs, and what
    // it sends is late.
    lost.node.shared.draining.cancel();
    lost.node.shared.held_jobs.forget_all();
    let _other = pool.node(9, Duration::ZERO);
    let (attempt, event) = answer.end().await;
    assert_eq!((attempt, finished(&event)), (2, FinishReason::Length));
    let mut alone = pool.submit(job(&[4, 5], 300, &lost.adapters[..1])).await;
    alone.end().await;
    assert_eq!(answer.tokens, alone.tokens);
}

#[tokio::test]
async fn a_lost_lease_ends_an_attempt_without_a_word_to_the_client() {
    let pool = Pool::new();
    let paused = pool.node(9, Duration::from_millis(5));
    let mut answer = pool.submit(job(&[4, 5], 60, &[])).await;
    answer.tokens(5).await;
    // As after a pause of the process, longer than the lease: the next report says that it is lost.
    let held_jobs = &paused.node.shared.held_jobs;
    held_jobs.progress().iter().for_each(|progress| held_jobs.lose(&progress.lease));
    let (attempt, event) = answer.end().await;
    assert_eq!((attempt, finished(&event)), (2, FinishReason::Length));
    let mut alone = pool.submit(job(&[4, 5], 60, &[])).await;
    alone.end().await;
    assert_eq!(answer.tokens, alone.tokens);
}

#[tokio::test]
async fn an_attempt_that_fails_is_tried_again_here_or_elsewhere() {
    let pool = Pool::new();
    let node = pool.node(9, Duration::ZERO);
    node.script.fail_next.store(true, Ordering::SeqCst);
    let mut answer = pool.submit(job(&[1], 4, &[])).await;
    let (attempt, event) = answer.end().await;
    assert_eq!((attempt, finished(&event)), (2, FinishReason::Length));
    // A model that is broken for good: the engine's thread has ended.
    node.script.panic_next.store(true, Ordering::SeqCst);
    let mut broken = pool.submit(job(&[1], 4, &[])).await;
    until("it waits again", async || {
        let notices = pool.queue.next_notices(pool_id(), &pool.gateway, SOON).await.unwrap();
        notices.iter().any(|notice| notice.job == broken.id && notice.kind == NoticeKind::Requeued)
    })
    .await;
    let _other = pool.node(9, Duration::ZERO);
    assert_eq!(finished(&broken.end().await.1), FinishReason::Length, "a sound node takes over");
}

#[tokio::test]
async fn draining_lets_running_answers_end_and_gives_back_the_rest() {
    let pool = Pool::new();
    let first = pool.node(0, Duration::from_millis(5));
    let mut running = pool.submit(job(&[1], 40, &[])).await;
    running.tokens(2).await;
    let mut loading = pool.submit(job(&[2], 4, &first.adapters)).await;
    until("the loads wait", async || first.source.num_fetches() == 2).await;
    let drained = tokio::spawn(async move {
        first.node.drain(SOON).await;
        first
    });
    let second = pool.node(9, Duration::ZERO);
    assert_eq!(loading.end().await.0, 2, "the second node had it");
    let (attempt, event) = running.end().await;
    assert_eq!((attempt, finished(&event)), (1, FinishReason::Length), "the first node ended it");
    let first = drained.await.unwrap();
    assert!(!first.node.shared.engine.is_open());
    second.node.drain(SOON).await;
    assert!(pool.is_empty().await);
    assert_eq!(pool.queue.lanes(pool_id()).await.unwrap(), []);
}

#[tokio::test]
async fn what_does_not_end_in_time_is_given_back_with_what_it_has() {
    let pool = Pool::new();
    let first = pool.node(9, Duration::from_millis(5));
    let mut answer = pool.submit(job(&[3], 60, &[])).await;
    answer.tokens(4).await;
    first.node.drain(Duration::ZERO).await;
    let _second = pool.node(9, Duration::ZERO);
    let (attempt, event) = answer.end().await;
    assert_eq!((attempt, finished(&event)), (2, FinishReason::Length));
    assert_eq!(answer.tokens, scripted::answer(&[3], &[], 60));
}

#[tokio::test]
async fn a_node_takes_only_what_can_start_soon() {
    let pool = Pool::new();
    let node = pool.node(9, Duration::from_millis(5));
    let mut answers = Vec::new();
    for _ in 0..30 {
        answers.push(pool.submit(job(&[1], 900, &[])).await);
    }
    until("the node is busy", async || node.node.shared.engine.stats().num_running == 4).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let stats = pool.queue.stats(pool_id()).await.unwrap();
    assert_eq!((stats.running, stats.queued), (6, 24), "four in the batch, two that wait for it");
    let lanes = pool.queue.lanes(pool_id()).await.unwrap();
    assert_eq!(lanes.len(), 1);
    until("its heartbeat says so", async || {
        let lanes = pool.queue.lanes(pool_id()).await.unwrap();
        (lanes[0].node.load.free_slots, lanes[0].node.load.running) == (0, 6)
    })
    .await;
}
