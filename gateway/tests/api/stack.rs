//! Everything a test needs around the router.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::Response;
use futures::StreamExt as _;
use serde_json::Value;
use souk_gateway::text::Tokenizer;
use souk_gateway::{
    Accounting, AccountingParts, AuthError, Catalog, Gateway, GatewayLimits, GatewayParts, Hooks, JournalSettings,
    ModelEntry, ModelPage, NodesAre, UsageStore,
};
use souk_http::Exporter;
use souk_http::cors::CorsOrigins;
use souk_limits::{Limits, Repeats};
use souk_protocol::{
    AdapterName, AdapterRef, AllowedModels, Digest, FinishReason, GenerateJob, JobEvent, JobId, KeyId, Limit,
    LimitTree, Mode, NodeId, Outcome, Policy, PoolId, Principal, ResolveError, ResolvedAdapter, Scope, TenantId,
    TokenId, TokenLogprobs, TokenOut, Usage,
};
use souk_queue::{Claim, EventHub, EventSinks as _, JobQueue, Lease, MemoryQueue, NodeStatus, QueueConfig, Settlement};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc};
use tower::ServiceExt as _;

use crate::rows::Rows;
use crate::support::tiny::{END, tiny_base};
use crate::switched::Switched;
use crate::trees::Trees;

/// A key that may call models.
pub(crate) const KEY: &str = "souk_good";
/// A key that may only look at adapters.
pub(crate) const LOOKING_KEY: &str = "souk_looking";
/// A key that may call the adapter `acme/sst2` and nothing else.
pub(crate) const LISTED_KEY: &str = "souk_listed";
/// A key of those who run the installation.
pub(crate) const OPERATORS_KEY: &str = "souk_operators";
/// A key of a tenant that owns nothing.
pub(crate) const OTHER_KEY: &str = "souk_other";

/// What a scripted node does with a job, in order.
pub(crate) enum Step {
    Send(JobEvent),
    Wait(Duration),
    /// Gives the job back as failed, for another attempt.
    Fail(&'static str),
    /// Does nothing until the job is cancelled; for ever, if its lease is lost first.
    Hang,
    /// The way to the gateway breaks, as where the node is killed; it hangs from then on.
    Lose,
}

pub(crate) type Script = Arc<dyn Fn(&GenerateJob, u32) -> Vec<Step> + Send + Sync>;

/// A gateway with its queue and node.
pub(crate) struct Stack {
    pub(crate) gateway: Gateway,
    pub(crate) queue: Arc<dyn JobQueue>,
    hub: EventHub,
    /// What is limited and written, to look at.
    pub(crate) around: Around,
    pub(crate) accounting: Accounting,
    pub(crate) router: Router,
    /// Jobs as the node received them.
    pub(crate) jobs: mpsc::UnboundedReceiver<GenerateJob>,
    /// Leases that the node was told to end.
    pub(crate) cancelled: mpsc::UnboundedReceiver<Lease>,
    /// What the node said at the end of each job.
    pub(crate) settled: mpsc::UnboundedReceiver<(JobId, Outcome, Usage)>,
}

impl Stack {
    /// A gateway whose node answers by `script`.
    pub(crate) async fn start(script: Script) -> Self {
        Self::with(script, GatewayLimits::default(), QueueConfig::default()).await
    }

    pub(crate) async fn with(script: Script, limits: GatewayLimits, queue: QueueConfig) -> Self {
        let stack = Self::without_node(limits, queue).await;
        stack.answering(script).await
    }

    /// A gateway whose limits, rows and journal are these.
    pub(crate) async fn within(around: Around, script: Script) -> Self {
        Self::within_room(around, GatewayLimits::default(), script).await
    }

    /// The same, which gives requests so much.
    pub(crate) async fn within_room(around: Around, limits: GatewayLimits, script: Script) -> Self {
        let stack = Self::new(around, CorsOrigins::Off, limits, QueueConfig::default()).await;
        stack.answering(script).await
    }

    /// The same, of which no node serves the model.
    pub(crate) async fn alone_within(around: Around) -> Self {
        Self::new(around, CorsOrigins::Off, GatewayLimits::default(), QueueConfig::default()).await
    }

    /// The same with a node that answers by `script`.
    async fn answering(self, script: Script) -> Self {
        let mut stack = self;
        let (jobs_sender, jobs) = mpsc::unbounded_channel();
        let (cancelled_sender, cancelled) = mpsc::unbounded_channel();
        let (settled_sender, settled) = mpsc::unbounded_channel();
        stack.run_node(script, jobs_sender, cancelled_sender, settled_sender).await;
        (stack.jobs, stack.cancelled, stack.settled) = (jobs, cancelled, settled);
        stack
    }

    /// A node joins that answers by `script`, and of which nobody hears more.
    pub(crate) async fn add_node(&self, script: Script) {
        let (jobs, _) = mpsc::unbounded_channel();
        let (cancelled, _) = mpsc::unbounded_channel();
        let (settled, _) = mpsc::unbounded_channel();
        self.run_node(script, jobs, cancelled, settled).await;
    }

    /// Waits until the gateway knows of a node.
    pub(crate) async fn until_ready(&self) {
        while self.get("/ready").await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The same, of which is heard which jobs it has.
    pub(crate) async fn add_node_that_tells(&self, script: Script) -> mpsc::UnboundedReceiver<GenerateJob> {
        let (jobs, heard) = mpsc::unbounded_channel();
        let (cancelled, _) = mpsc::unbounded_channel();
        let (settled, _) = mpsc::unbounded_channel();
        self.run_node(script, jobs, cancelled, settled).await;
        heard
    }

    async fn run_node(
        &self,
        script: Script,
        jobs: mpsc::UnboundedSender<GenerateJob>,
        cancelled: mpsc::UnboundedSender<Lease>,
        settled: mpsc::UnboundedSender<(JobId, Outcome, Usage)>,
    ) {
        let node = Node {
            queue: Arc::clone(&self.queue),
            hub: self.hub.clone(),
            pool: pool(),
            id: NodeId::from_stored("node_1"),
            script,
            stops: Arc::default(),
            settled,
        };
        node.heartbeat().await;
        tokio::spawn(node.clone().listen(cancelled));
        tokio::spawn(node.run(jobs));
    }

    pub(crate) async fn without_node(limits: GatewayLimits, config: QueueConfig) -> Self {
        Self::new(Around::default(), CorsOrigins::Off, limits, config).await
    }

    /// A gateway that pages of these origins may call.
    pub(crate) async fn with_cors(cors: CorsOrigins) -> Self {
        Self::new(Around::default(), cors, GatewayLimits::default(), QueueConfig::default()).await
    }

    async fn new(around: Around, cors: CorsOrigins, limits: GatewayLimits, config: QueueConfig) -> Self {
        Self::around_queue(Arc::new(MemoryQueue::new(config)), around, cors, limits).await
    }

    /// A gateway without a node, at a queue that others have as well.
    pub(crate) async fn at_queue(queue: Arc<dyn JobQueue>, around: Around) -> Self {
        let limits = GatewayLimits { nodes: NodesAre::Apart, ..GatewayLimits::default() };
        Self::around_queue(queue, around, CorsOrigins::Off, limits).await
    }

    async fn around_queue(queue: Arc<dyn JobQueue>, around: Around, cors: CorsOrigins, limits: GatewayLimits) -> Self {
        let hub = EventHub::new();
        let accounting = around.open().await;
        let gateway = Gateway::new(GatewayParts {
            bases: vec![tiny_base()],
            catalog: Arc::new(FewAdapters(Arc::clone(&around.trees))),
            queue: Arc::clone(&queue),
            hub: hub.clone(),
            accounting: accounting.clone(),
            metrics: exporter(),
            cors,
            hooks: around.hooks.clone(),
            limits,
        });
        let gateway = gateway.unwrap();
        let (router, _) = souk_gateway::router(gateway.clone());
        let router = router.fallback(souk_gateway::not_found);
        let (_, jobs) = mpsc::unbounded_channel();
        let (_, cancelled) = mpsc::unbounded_channel();
        let (_, settled) = mpsc::unbounded_channel();
        Self { gateway, queue, hub, around, accounting, router, jobs, cancelled, settled }
    }

    /// Sends a body to a path with the good key.
    pub(crate) async fn post(&self, path: &str, body: Value) -> HttpAnswer {
        self.send(request("POST", path, KEY, body.to_string())).await
    }

    pub(crate) async fn get(&self, path: &str) -> HttpAnswer {
        self.send(request("GET", path, KEY, String::new())).await
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn send(&self, request: Request<Body>) -> HttpAnswer {
        HttpAnswer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// Sends a request and hands over the answer's body as it comes.
    pub(crate) async fn open(&self, path: &str, body: Value) -> axum::body::BodyDataStream {
        let response = self.router.clone().oneshot(request("POST", path, KEY, body.to_string())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().into_data_stream()
    }
}

pub(crate) fn request(method: &str, path: &str, key: &str, body: String) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path).header("content-type", "application/json");
    builder.header("authorization", format!("Bearer {key}")).body(Body::from(body)).unwrap()
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl HttpAnswer {
    /// All of a response.
    pub(crate) async fn of(response: Response) -> Self {
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Self { status: head.status, headers: head.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The data of each server-sent event; `[DONE]` as a string.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data))).collect()
    }

    /// The text of one choice of a stream.
    pub(crate) fn streamed_text(&self, index: u64) -> String {
        let events = self.events();
        let choices = events.iter().filter_map(|event| event["choices"].as_array()).flatten();
        let own = choices.filter(|choice| choice["index"] == index);
        own.filter_map(|choice| choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str())).collect()
    }
}

pub(crate) fn pool() -> PoolId {
    PoolId(tiny_base().digest)
}

pub(crate) fn tokenizer() -> Tokenizer {
    Tokenizer::new(&tiny_base()).unwrap()
}

/// A script that answers `text` a token at a time and then ends, keeping to `max_tokens`.
pub(crate) fn says(text: &'static str) -> Script {
    Arc::new(move |job, _| answer(job, &tokenizer().encode(text).unwrap()))
}

/// The steps of an ordinary answer: prompt scores if wanted, `ids` up to `max_tokens`, the ending token, the end.
pub(crate) fn answer(job: &GenerateJob, ids: &[TokenId]) -> Vec<Step> {
    let mut steps = vec![Step::Send(JobEvent::Started)];
    if let Some(num_top) = job.prompt_logprobs {
        let scores: Vec<_> =
            (0..job.prompt.len()).map(|at| (at > 0).then(|| scores(job.prompt[at], num_top))).collect();
        // In two parts, as chunked prefill sends them.
        let (first, second) = scores.split_at(scores.len() / 2);
        steps.push(Step::Send(JobEvent::PromptLogprobs(first.to_vec())));
        steps.push(Step::Send(JobEvent::PromptLogprobs(second.to_vec())));
    }
    let ends = !job.eos_tokens.is_empty();
    let mut ids: VecDeque<TokenId> = ids.iter().copied().chain(ends.then_some(END)).collect();
    ids.drain(..(job.resume.len()).min(ids.len()));
    let whole = ids.len() + job.resume.len();
    ids.truncate((job.max_tokens as usize).saturating_sub(job.resume.len()));
    let num_tokens = ids.len() + job.resume.len();
    for (offset, id) in (job.resume.len() as u32..).zip(ids) {
        let token = TokenOut { id, logprobs: job.logprobs.map(|num_top| scores(id, num_top)) };
        steps.push(Step::Send(JobEvent::Tokens { offset, tokens: vec![token] }));
    }
    let reason = if ends && num_tokens == whole { FinishReason::Stop } else { FinishReason::Length };
    let usage = usage(job, num_tokens);
    steps.push(Step::Send(JobEvent::Finished { reason, usage }));
    steps
}

/// What the node says of a job that it began.
fn usage(job: &GenerateJob, num_tokens: usize) -> Usage {
    Usage {
        prompt_tokens: job.prompt.len() as u32,
        cached_tokens: 2,
        completion_tokens: num_tokens as u32,
        prefill_began: true,
    }
}

/// Scores that a test can recognise: `-id / 100` for the token, and for each alternative one less.
fn scores(id: TokenId, num_top: u8) -> TokenLogprobs {
    let logprob = -(id as f32) / 100.0;
    let top = (0..num_top).map(|place| ((id + u32::from(place)) % 260, logprob - f32::from(place))).collect();
    TokenLogprobs { logprob, top }
}

/// Takes jobs as a real node does, and plays the script instead of running a model.
#[derive(Clone)]
struct Node {
    queue: Arc<dyn JobQueue>,
    hub: EventHub,
    pool: PoolId,
    id: NodeId,
    script: Script,
    stops: Arc<Stops>,
    settled: mpsc::UnboundedSender<(JobId, Outcome, Usage)>,
}

/// Which leases are cancelled.
#[derive(Default)]
struct Stops {
    leases: Mutex<HashSet<Lease>>,
    rung: Notify,
}

impl Stops {
    fn stop(&self, lease: Lease) {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).insert(lease);
        self.rung.notify_waiters();
    }

    async fn wait_for(&self, lease: &Lease) {
        loop {
            let rung = self.rung.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if self.leases.lock().unwrap_or_else(PoisonError::into_inner).contains(lease) {
                return;
            }
            rung.await;
        }
    }
}

impl Node {
    async fn heartbeat(&self) {
        self.queue.heartbeat(NodeStatus::new(self.id.clone(), self.pool)).await.unwrap();
    }

    async fn run(self, jobs: mpsc::UnboundedSender<GenerateJob>) {
        loop {
            self.heartbeat().await;
            let claim = Claim { pool: self.pool, node: self.id.clone(), max_jobs: 64, max_newcomers: 0 };
            self.queue.wait(&claim, Duration::from_millis(500)).await.unwrap();
            for delivery in self.queue.claim(claim).await.unwrap() {
                let _ = jobs.send(delivery.job.clone());
                tokio::spawn(self.clone().play(delivery));
            }
        }
    }

    async fn listen(self, cancelled: mpsc::UnboundedSender<Lease>) {
        loop {
            let leases = self.queue.next_cancelled(self.pool, &self.id, Duration::from_secs(1)).await.unwrap();
            for lease in leases {
                self.stops.stop(lease.clone());
                let _ = cancelled.send(lease);
            }
        }
    }

    async fn play(self, delivery: souk_queue::Delivery) {
        let sink = self.hub.sink(&delivery.reply_to, &delivery.job.id, delivery.lease.attempt);
        // Until the script says otherwise: the caller leaves.
        let (mut outcome, mut num_tokens, mut said) = (Outcome::CallerLeft, delivery.job.resume.len(), None);
        for step in (self.script)(&delivery.job, delivery.lease.attempt) {
            match step {
                Step::Send(event) => {
                    match &event {
                        // Computed, whether it can be sent or not.
                        JobEvent::Tokens { offset, tokens } => num_tokens = *offset as usize + tokens.len(),
                        JobEvent::Finished { reason, usage } => (outcome, said) = (reason.outcome(), Some(*usage)),
                        JobEvent::Failed(failure) => outcome = failure.outcome(num_tokens as u32),
                        JobEvent::Started | JobEvent::PromptLogprobs(_) => {}
                    }
                    if sink.send(event).is_err() {
                        outcome = Outcome::CallerLeft;
                        break;
                    }
                }
                Step::Wait(time) => {
                    let stop = self.stops.wait_for(&delivery.lease);
                    if tokio::time::timeout(time, stop).await.is_ok() {
                        break;
                    }
                }
                Step::Fail(reason) => {
                    let retry = Settlement::Retry { reason: reason.to_owned() };
                    self.queue.settle(self.pool, &delivery.lease, retry).await.unwrap();
                    return;
                }
                Step::Lose => {
                    drop(self.hub.lose(&delivery.job.id, delivery.lease.attempt));
                    self.stops.wait_for(&delivery.lease).await;
                    break;
                }
                Step::Hang => {
                    self.stops.wait_for(&delivery.lease).await;
                    break;
                }
            }
        }
        let usage = said.unwrap_or_else(|| usage(&delivery.job, num_tokens));
        // Refused where the lease was lost meanwhile.
        if self.queue.settle(self.pool, &delivery.lease, Settlement::Over { outcome, usage }).await.is_ok() {
            let _ = self.settled.send((delivery.job.id, outcome, usage));
        }
    }
}

/// Reads a body until `wanted` shows.
pub(crate) async fn read_until(body: &mut axum::body::BodyDataStream, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let frame = tokio::time::timeout(Duration::from_secs(10), body.next()).await.expect("in time").expect("more");
        text.push_str(std::str::from_utf8(&frame.unwrap()).unwrap());
    }
    text
}

/// What a gateway's usage is limited by and written to. Its clones are the same.
#[derive(Clone)]
pub(crate) struct Around {
    pub(crate) limits: Arc<Switched>,
    pub(crate) rows: Arc<Rows>,
    /// The journal's.
    pub(crate) folder: Arc<TempDir>,
    /// Most bytes of the journal; its segments have an eighth.
    pub(crate) journal_bytes: u64,
    pub(crate) trees: Arc<Trees>,
    pub(crate) hooks: Hooks,
}

impl Default for Around {
    fn default() -> Self {
        Self {
            limits: Arc::default(),
            rows: Arc::default(),
            folder: Arc::new(tempfile::tempdir().unwrap()),
            journal_bytes: 1 << 20,
            trees: Arc::default(),
            hooks: Hooks::none(),
        }
    }
}

impl Around {
    /// With limits of the tenant of [`KEY`].
    pub(crate) fn limited(limits: &[(Policy, u64)]) -> Self {
        let around = Self::default();
        around.change_tree(|tree| {
            let limit = |value| Limit { value, soft: None, mode: Mode::Enforce };
            tree.levels[0].limits = limits.iter().map(|(policy, value)| (*policy, limit(*value))).collect();
        });
        around
    }

    /// Changes what binds the tenant of [`KEY`].
    pub(crate) fn change_tree(&self, change: impl FnOnce(&mut LimitTree)) {
        self.trees.change("ten_acme", change);
    }

    /// The same data for another process: what was in memory is lost.
    pub(crate) fn after_a_kill(&self) -> Self {
        Self { limits: Arc::default(), ..self.clone() }
    }

    async fn open(&self) -> Accounting {
        let parts = AccountingParts {
            limits: Arc::clone(&self.limits) as Arc<dyn Limits>,
            repeats: Arc::clone(&self.limits) as Arc<dyn Repeats>,
            store: Arc::clone(&self.rows) as Arc<dyn UsageStore>,
            journal: JournalSettings { folder: self.folder.path().join("journal"), max_bytes: self.journal_bytes },
        };
        Accounting::open(parts).await.unwrap()
    }
}

/// A registry of few adapters.
struct FewAdapters(Arc<Trees>);

/// Public adapters of others.
pub(crate) const NUM_PUBLIC: usize = 3;

fn entry(owner: &str, name: &str) -> ModelEntry {
    ModelEntry { id: format!("{owner}/{name}"), owner: owner.to_owned(), created_unix_s: 1_700_000_000 }
}

/// Digest of the adapter `acme/sst2`.
pub(crate) fn sst2() -> Digest {
    Digest::of(b"sst2")
}

#[async_trait]
impl Catalog for FewAdapters {
    async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        let principal = |tenant: &str, scope| Principal {
            tenant: TenantId::from_stored(format!("ten_{tenant}")),
            tenant_name: tenant.to_owned(),
            key: KeyId::from_stored("key_1"),
            person: None,
            models: None,
            scopes: [scope].into(),
        };
        match presented {
            KEY => Ok(principal("acme", Scope::Inference)),
            OTHER_KEY => Ok(principal("other", Scope::Inference)),
            OPERATORS_KEY => Ok(principal("operators", Scope::Admin)),
            LISTED_KEY => {
                let models = Some(AllowedModels::new(vec!["acme/sst2@1.2.0".parse().unwrap()]));
                Ok(Principal { models, ..principal("acme", Scope::Inference) })
            }
            LOOKING_KEY => Ok(principal("acme", Scope::AdaptersRead)),
            "souk_store_down" => Err(AuthError::Unavailable("the store is down".into())),
            _ => Err(AuthError::Invalid),
        }
    }

    async fn resolve(&self, principal: &Principal, reference: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        let text = reference.to_string();
        let resolved = |base| ResolvedAdapter {
            name: reference.name.clone(),
            version: "1.2.0".parse().unwrap(),
            digest: sst2(),
            base,
            rank: Some(16),
            hooks: self.0.attached(),
            grant: None,
        };
        if crate::version_templates::template_of(reference.name.name()).is_some() {
            let digest = Digest::of(reference.name.name().as_bytes());
            return Ok(ResolvedAdapter { digest, hooks: None, ..resolved(tiny_base().digest) });
        }
        match (reference.name.to_string().as_str(), principal.tenant_name.as_str()) {
            ("acme/sst2", "acme") => Ok(resolved(tiny_base().digest)),
            ("acme/foreign", "acme") => Ok(resolved(Digest::of(b"another base"))),
            ("acme/new", "acme") => Err(ResolveError::NotReady { reference: text, state: "validating".to_owned() }),
            ("acme/gated", _) => Err(ResolveError::NotGranted(text)),
            ("acme/bad", _) => Err(ResolveError::TakenDown(text)),
            ("acme/down", _) => Err(ResolveError::Unavailable("the store is down".into())),
            _ => Err(ResolveError::NotFound(text)),
        }
    }

    async fn chat_template(&self, adapter: &ResolvedAdapter) -> Result<Option<String>, ResolveError> {
        Ok(crate::version_templates::template_of(adapter.name.name()))
    }

    async fn list(&self, principal: &Principal, most_public: usize) -> Result<ModelPage, ResolveError> {
        let entries = if principal.tenant_name == "acme" { vec![entry("acme", "sst2")] } else { Vec::new() };
        let public = (0..NUM_PUBLIC).map(|number| entry("crowd", &format!("{number:03}")));
        let next = (most_public < NUM_PUBLIC).then(|| format!("/registry/v1/adapters?cursor={most_public}"));
        Ok(ModelPage { entries: entries.into_iter().chain(public.take(most_public)).collect(), next })
    }

    async fn entry(&self, _principal: &Principal, name: &AdapterName) -> Result<ModelEntry, ResolveError> {
        Ok(entry(name.owner(), name.name()))
    }

    async fn limits(&self, principal: &Principal) -> Result<Arc<LimitTree>, AuthError> {
        self.0.of(principal).map(Arc::new)
    }
}

/// The exporter of the test process: the recorder is global, so all tests share it.
fn exporter() -> Exporter {
    static EXPORTER: OnceLock<Exporter> = OnceLock::new();
    EXPORTER
        .get_or_init(|| {
            let exporter = Exporter::install().unwrap();
            souk_gateway::metrics::describe();
            exporter
        })
        .clone()
}

/// Headers of an answer that matter to callers.
pub(crate) fn headers_of(answer: &HttpAnswer) -> HashMap<&str, &str> {
    let known = ["x-should-retry", "retry-after", "content-type", "x-souk-adapter-digest"];
    let value = |name: &&'static str| Some((*name, answer.headers.get(*name)?.to_str().unwrap()));
    known.iter().filter_map(value).collect()
}
