//! The gateway itself: what all requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use souk_http::Exporter;
use souk_http::cors::CorsOrigins;
use souk_protocol::{AdapterName, BaseModel, Deprived, Digest, GatewayId, JobId, KeyId, Outcome, PoolId, wall_clock};
use souk_queue::{EventHub, JobQueue, NodeOrder, ReplyTo, take_back_losses};
use tokio_util::task::AbortOnDropHandle;

use crate::call::alive::Alive;
use crate::call::gates::{Gates, Holder};
use crate::call::left;
use crate::call::open_jobs::{OpenJobs, Which};
use crate::catalog::Catalog;
use crate::hooks::Hooks;
use crate::lanes::Lanes;
use crate::limits::{GatewayLimits, NodesAre};
use crate::metrics;
use crate::served::{BaseError, ServedBase};
use crate::text_work::{TenantTexts, TextWork};
use crate::usage::Accounting;
use crate::version_templates::VersionTemplates;

/// How often a draining gateway looks whether the last request has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a gateway is built from.
pub struct GatewayParts {
    /// The base models that it serves; the first is meant where a request names none.
    pub bases: Vec<BaseModel>,
    /// Who may call what.
    pub catalog: Arc<dyn Catalog>,
    /// Where jobs go.
    pub queue: Arc<dyn JobQueue>,
    /// Where their events come from.
    pub hub: EventHub,
    /// Where what is used is reserved and counted.
    pub accounting: Accounting,
    /// Renders `/metrics`.
    pub metrics: Exporter,
    /// Which pages of other origins may call the routes that take a key.
    pub cors: CorsOrigins,
    /// The hooks that can be called.
    pub hooks: Hooks,
    /// What requests may use.
    pub limits: GatewayLimits,
}

/// A handle on a running gateway; clones share it.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<GatewayState>,
}

struct GatewayState {
    id: GatewayId,
    bases: Vec<Arc<ServedBase>>,
    catalog: Arc<dyn Catalog>,
    queue: Arc<dyn JobQueue>,
    /// Of each base's pool, in their order.
    lanes: Vec<Arc<Lanes>>,
    hub: EventHub,
    accounting: Accounting,
    open_jobs: OpenJobs,
    version_templates: VersionTemplates,
    text_work: TextWork,
    metrics: Exporter,
    cors: CorsOrigins,
    hooks: Hooks,
    limits: GatewayLimits,
    gates: Gates,
    draining: AtomicBool,
    started_unix_s: u64,
    /// Some for each pool ([`tasks_of_pool`]) with two for its lanes, one that takes lost jobs back, and one that finds out
    /// what became of requests of processes before; they end with the gateway.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Gateway {
    /// Builds a gateway and starts to read the queue's notices and which nodes there are. Call it within a tokio runtime.
    ///
    /// # Errors
    /// [`BaseError`] if a base model's tokenizer or template is not supported.
    pub fn new(parts: GatewayParts) -> Result<Self, BaseError> {
        let bases = parts.bases.iter().map(|base| Ok(Arc::new(ServedBase::new(base, &parts.limits)?)));
        let bases = bases.collect::<Result<Vec<_>, BaseError>>()?;
        if bases.is_empty() {
            return Err(BaseError::NoBase);
        }
        let (id, open_jobs) = (GatewayId::new(), OpenJobs::default());
        let lanes_of = |base: &Arc<ServedBase>| Lanes::new(Arc::clone(&parts.queue), Arc::clone(base));
        let lanes: Vec<_> = bases.iter().map(lanes_of).collect();
        let keep_live = |lanes: &Arc<Lanes>| AbortOnDropHandle::new(tokio::spawn(Arc::clone(lanes).keep_live()));
        let keep_telling =
            |lanes: &Arc<Lanes>| AbortOnDropHandle::new(tokio::spawn(Arc::clone(lanes).keep_telling(id.clone())));
        let of_lanes = lanes.iter().map(keep_live).chain(lanes.iter().map(keep_telling));
        let of_pool = bases.iter().flat_map(|base| tasks_of_pool(&parts, &open_jobs, base.pool(), &id));
        let mut tasks: Vec<_> = of_pool.chain(of_lanes).collect();
        let resolve = left::resolve(parts.accounting.clone(), Arc::clone(&parts.queue));
        tasks.push(AbortOnDropHandle::new(tokio::spawn(resolve)));
        let (losses, waited_for) = (parts.hub.losses(), open_jobs.clone());
        let pool_of = move |job: &JobId| waited_for.pool_of(job);
        let failover = take_back_losses(losses, Arc::clone(&parts.queue), pool_of, metrics::lost_attempt);
        tasks.push(AbortOnDropHandle::new(tokio::spawn(failover)));
        let shared = GatewayState {
            id,
            bases,
            catalog: parts.catalog,
            queue: parts.queue,
            lanes,
            hub: parts.hub,
            accounting: parts.accounting,
            open_jobs,
            version_templates: VersionTemplates::default(),
            text_work: TextWork::new(parts.limits.max_concurrent_texts, parts.limits.request_timeout),
            metrics: parts.metrics,
            cors: parts.cors,
            hooks: parts.hooks,
            gates: Gates::new(&parts.limits),
            limits: parts.limits,
            draining: AtomicBool::new(false),
            started_unix_s: wall_clock::since_epoch().as_secs(),
            _tasks: tasks,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Refuses new requests from now on and returns when the last running one has ended, streams included, and all jobs
    /// are settled and in the journal; what is not written yet is [closed](Accounting::close) after it. Limit the wait with a timeout: a client that reads slowly may take long. Then
    /// [`cut_off`](Self::cut_off) what is left.
    pub async fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
        while self.shared.gates.in_flight() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends all running answers at once: whole ones with 503, streams with an error event. Their jobs leave the queue
    /// and the batches, and are settled as drained.
    pub async fn cut_off(&self) {
        self.end_jobs(Which::All, Outcome::Drained).await;
    }

    /// Ends all running answers that use a version of an adapter or of a hook: whole ones with 410, of a hook with 502, streams with an error event of
    /// the same code. Their jobs leave the queue and the batches, and are settled as taken down. A request that was resolved before
    /// and is not queued yet is refused. Nodes are ordered to let go of the version, whoever else's jobs use it.
    pub async fn take_down(&self, digest: &Digest) {
        self.hooks().forget(digest);
        self.end_jobs(Which::Using(digest), Outcome::TakenDown).await;
        for base in self.bases() {
            if let Err(error) = self.shared.queue.order(base.pool(), NodeOrder::TakeDown(*digest)).await {
                tracing::error!(%error, adapter.digest = %digest, "cannot order a take-down; nodes keep the version");
            }
        }
    }

    /// Ends all running answers that were asked for with a key: whole ones with 401, streams with an error event of the
    /// same code. Their jobs leave the queue and the batches, and are settled as those of a revoked key. A request
    /// whose key was checked before and that is not queued yet is refused.
    pub async fn end_key(&self, key: &KeyId) {
        self.end_jobs(Which::Of(key), Outcome::KeyRevoked).await;
    }

    /// Ends all running answers that use an adapter, of tenants that may call it no more, as [`take_down`](Self::take_down)
    /// does for all. A request that was resolved before and is not queued yet is refused; one that is resolved later is not,
    /// since access may be granted again.
    pub async fn end_access(&self, adapter: &AdapterName, from: &Deprived) {
        self.end_jobs(Which::Deprived(adapter, from), Outcome::TakenDown).await;
    }

    async fn end_jobs(&self, which: Which<'_>, outcome: Outcome) {
        // The answers end by themselves, as soon as their clients read on; the jobs do not wait for that.
        let cancels = self.shared.open_jobs.end(which, outcome).into_iter().map(|(pool, job)| async move {
            if let Err(error) = self.shared.queue.cancel(pool, &job).await {
                tracing::warn!(%error, %job, "cannot cancel a job");
            }
        });
        futures::future::join_all(cancels).await;
    }

    /// Whether [`drain`](Self::drain) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    /// The base model with these weights.
    pub(crate) fn base_with(&self, digest: &Digest) -> Option<Arc<ServedBase>> {
        self.shared.bases.iter().find(|base| base.digest == *digest).cloned()
    }

    /// The base models served, the default first.
    #[must_use]
    pub fn bases(&self) -> &[Arc<ServedBase>] {
        &self.shared.bases
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &GatewayLimits {
        &self.shared.limits
    }

    /// Where nodes send what comes of its jobs.
    pub(crate) fn reply_to(&self) -> ReplyTo {
        let limits = self.limits();
        let advertise = (limits.nodes == NodesAre::Apart).then(|| limits.advertise.clone());
        ReplyTo { gateway: self.id().clone(), advertise }
    }

    /// Who it is, to nodes and to the queue.
    #[must_use]
    pub fn id(&self) -> &GatewayId {
        &self.shared.id
    }

    pub(crate) fn catalog(&self) -> &dyn Catalog {
        self.shared.catalog.as_ref()
    }

    pub(crate) fn queue(&self) -> &Arc<dyn JobQueue> {
        &self.shared.queue
    }

    /// The lanes of a base's pool.
    pub(crate) fn lanes_of(&self, base: &ServedBase) -> &Arc<Lanes> {
        let at = self.bases().iter().position(|served| served.digest == base.digest);
        &self.shared.lanes[at.expect("only bases that are served are asked for")]
    }

    pub(crate) fn hub(&self) -> &EventHub {
        &self.shared.hub
    }

    pub(crate) fn accounting(&self) -> &Accounting {
        &self.shared.accounting
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.shared.hooks
    }

    pub(crate) fn version_templates(&self) -> &VersionTemplates {
        &self.shared.version_templates
    }

    /// Where the texts of a holder's tenant are worked on.
    pub(crate) fn texts_of<'a>(&'a self, holder: &'a Holder) -> TenantTexts<'a> {
        self.shared.text_work.of(holder)
    }

    /// Texts that are worked on, and those that wait for it.
    pub(crate) fn text_load(&self) -> (u64, usize) {
        self.shared.text_work.load()
    }

    pub(crate) fn open_jobs(&self) -> &OpenJobs {
        &self.shared.open_jobs
    }

    pub(crate) fn gates(&self) -> &Gates {
        &self.shared.gates
    }

    pub(crate) fn metrics(&self) -> &Exporter {
        &self.shared.metrics
    }

    pub(crate) fn cors(&self) -> &CorsOrigins {
        &self.shared.cors
    }

    /// When this gateway started; the `created` of base models, which have no date of their own.
    pub(crate) fn started_unix_s(&self) -> u64 {
        self.shared.started_unix_s
    }
}

/// What goes on in a pool as long as the gateway lives: it carries notices, says that it lives, writes down what others leave, and
/// says what is written.
fn tasks_of_pool(
    parts: &GatewayParts,
    open_jobs: &OpenJobs,
    pool: PoolId,
    id: &GatewayId,
) -> [AbortOnDropHandle<()>; 4] {
    let (queue, accounting) = (|| Arc::clone(&parts.queue), || parts.accounting.clone());
    let (hub, gateway) = (parts.hub.clone(), id.clone());
    let alive = Alive { queue: queue(), hub, open_jobs: open_jobs.clone(), pool, gateway };
    [
        AbortOnDropHandle::new(tokio::spawn(open_jobs.clone().carry(queue(), pool, id.clone()))),
        AbortOnDropHandle::new(tokio::spawn(alive.go_on())),
        AbortOnDropHandle::new(tokio::spawn(left::adopt(accounting(), queue(), pool, id.clone()))),
        AbortOnDropHandle::new(tokio::spawn(left::acknowledge(accounting(), queue(), pool))),
    ]
}
