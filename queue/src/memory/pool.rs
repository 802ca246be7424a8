//! The state of one pool: which jobs there are, where they wait, which nodes live.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use souk_protocol::deadline::bounded;
use souk_protocol::gate::{Cause, Gate, Pass, Refusal, Rules};
use souk_protocol::{GatewayId, JobFailure, JobId, NodeId, Outcome, TenantId, TokenId};
use tokio::time::Instant;

use super::mailbox::Mailboxes;
use super::orders::Orders;
use super::popular::Popularity;
use super::unposted::Unposted;
use super::vtc::VirtualCounters;
use crate::config::QueueConfig;
use crate::error::{FullScope, QueueError, QueueFull, time_to_drain};
use crate::nodes::NodeStatus;
use crate::words::{Cancelled, DeadLetter, JobState, Lease, Notice, Submission, Submitted};

pub(super) struct Pool {
    pub(super) config: QueueConfig,
    pub(super) jobs: HashMap<JobId, Record>,
    /// Waiting jobs. The lane of `None` holds those without a preference.
    pub(super) lanes: BTreeMap<Option<NodeId>, Lane>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    /// Nodes that said they take no more, and when.
    pub(super) retired: HashMap<NodeId, Instant>,
    pub(super) counters: VirtualCounters,
    /// Running jobs per tenant; a tenant with none is not in here.
    pub(super) running: HashMap<TenantId, usize>,
    /// Running jobs per node and tenant; whoever has none is not in here.
    pub(super) held: HashMap<NodeId, HashMap<TenantId, usize>>,
    /// The places of waiting jobs, shared between tenants. A job that waits has one, in its [`Phase`].
    pub(super) places: Gate<TenantId>,
    /// When each record changes by time alone; see [`Record::due`].
    pub(super) due: BTreeSet<(Instant, JobId)>,
    pub(super) notices: Mailboxes<GatewayId, Notice>,
    pub(super) unposted: Unposted,
    pub(super) cancellations: Mailboxes<NodeId, Lease>,
    pub(super) orders: Orders,
    pub(super) popularity: Popularity,
    pub(super) rings: Rings,
    pub(super) pace: Pace,
    pub(super) dead: VecDeque<DeadLetter>,
    next_ticket: Ticket,
}

/// A job's place in the order of arrival. Kept over redeliveries, so that a job that comes back is as old as it is.
pub(super) type Ticket = u64;

/// The waiting jobs of one lane. A tenant with none is not in here.
pub(super) type Lane = BTreeMap<TenantId, BTreeMap<Ticket, JobId>>;

/// All that is known of one job.
pub(super) struct Record {
    pub(super) submission: Submission,
    /// When its answer stops being wanted. Each delivery says what is left until then.
    pub(super) deadline: Option<Instant>,
    pub(super) ticket: Ticket,
    /// Number of the latest delivery, for fencing.
    pub(super) attempt: u32,
    /// Deliveries that count towards the dead letters.
    pub(super) deliveries: u32,
    pub(super) prompt_charged: bool,
    pub(super) output_charged: u32,
    /// Tokens that its gateway has said to have delivered.
    pub(super) delivered: u32,
    /// Whether its gateway has been told how it ended.
    pub(super) is_settled: bool,
    pub(super) phase: Phase,
}

pub(super) enum Phase {
    /// It holds its place until it leaves this phase.
    Queued {
        since: Instant,
        _place: Pass<TenantId>,
    },
    Running {
        node: NodeId,
        expires: Instant,
        cancelled: bool,
    },
    Over {
        forget: Instant,
    },
}

pub(super) struct Node {
    pub(super) status: NodeStatus,
    pub(super) seen: Instant,
}

/// Which doorbells a step wants rung.
#[derive(Clone, Copy, Default)]
pub(super) struct Rings {
    pub(super) work: bool,
    pub(super) cancellations: bool,
    pub(super) notices: bool,
    pub(super) orders: bool,
}

/// How fast jobs leave the queue lately.
#[derive(Default)]
pub(super) struct Pace {
    last_claim: Option<Instant>,
    seconds_per_claim: f64,
}

impl Pool {
    pub(super) fn new(config: QueueConfig) -> Self {
        Self {
            config,
            jobs: HashMap::new(),
            lanes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            retired: HashMap::new(),
            counters: VirtualCounters::default(),
            running: HashMap::new(),
            held: HashMap::new(),
            places: Gate::new(rules(&config)),
            due: BTreeSet::new(),
            notices: Mailboxes::new(config.remember_over),
            unposted: Unposted::default(),
            cancellations: Mailboxes::new(config.remember_over),
            orders: Orders::default(),
            popularity: Popularity::default(),
            rings: Rings::default(),
            pace: Pace::default(),
            dead: VecDeque::new(),
            next_ticket: 0,
        }
    }

    pub(super) fn take_rings(&mut self) -> Rings {
        std::mem::take(&mut self.rings)
    }

    pub(super) fn submit(&mut self, submission: Submission, now: Instant) -> Result<Submitted, QueueError> {
        if let Some(record) = self.jobs.get(&submission.job.id) {
            return Ok(Submitted::Already(record.phase.state()));
        }
        let place = self.admit(&submission.job.tenant, now)?;
        let gateway = &submission.reply_to.gateway;
        self.unposted.heartbeat(gateway, now);
        if let Some(account) = &submission.account {
            self.unposted.open(gateway, &submission.job.id, account.clone());
        }
        self.insert(submission, false, Some(place), now);
        Ok(Submitted::Queued)
    }

    /// A place for a new job of the tenant.
    fn admit(&self, tenant: &TenantId, now: Instant) -> Result<Pass<TenantId>, QueueFull> {
        let in_flight = self.counters.queued(tenant) + self.running.get(tenant).copied().unwrap_or(0);
        if let Some(limit) = self.config.max_in_flight_per_tenant.filter(|limit| in_flight >= *limit) {
            return Err(self.full(FullScope::TenantInFlight, limit, in_flight));
        }
        self.places.enter(tenant, 1, now.into_std()).map_err(|refusal| self.refused(refusal))
    }

    /// Why there is no place, in jobs that wait.
    fn refused(&self, refusal: Refusal) -> QueueFull {
        let count = |jobs| usize::try_from(jobs).unwrap_or(usize::MAX);
        let room = rules(&self.config).room(refusal.held + refusal.asked);
        match refusal.cause {
            Cause::Share => self.full(FullScope::TenantQueued, count(refusal.share), count(refusal.held)),
            Cause::Full => self.full(FullScope::PoolQueued, count(room), count(refusal.used)),
        }
    }

    fn full(&self, scope: FullScope, limit: usize, queued: usize) -> QueueFull {
        QueueFull { scope, limit, queued, retry_after: time_to_drain(self.pace.seconds_per_claim, queued / 2) }
    }

    /// `place` is what the gate gave; without one the job comes back, and is not asked again.
    pub(super) fn insert(
        &mut self,
        submission: Submission,
        is_settled: bool,
        place: Option<Pass<TenantId>>,
        now: Instant,
    ) {
        let id = submission.job.id.clone();
        let record = Record {
            deadline: submission.job.time_left.map(|time_left| now + bounded(Some(time_left))),
            attempt: submission.attempts,
            submission,
            ticket: self.next_ticket,
            deliveries: 0,
            prompt_charged: false,
            output_charged: 0,
            delivered: 0,
            is_settled,
            phase: Phase::Over { forget: now },
        };
        self.next_ticket += 1;
        self.jobs.insert(id.clone(), record);
        self.enqueue(&id, place, now);
    }

    /// Puts a job that is on record into its lane; ends it if it must not run any more. One that comes back has no place
    /// with it and is given one however full the queue is.
    pub(super) fn enqueue(&mut self, id: &JobId, place: Option<Pass<TenantId>>, now: Instant) {
        if self.is_taken_down(id) {
            return self.end_unsaid(id, Outcome::TakenDown, JobFailure::TakenDown, now);
        }
        let Some(record) = self.jobs.get(id) else { return };
        let (lane, tenant) = (record.submission.lane.clone(), record.submission.job.tenant.clone());
        self.lanes.entry(lane).or_default().entry(tenant.clone()).or_default().insert(record.ticket, id.clone());
        self.counters.arrive(&tenant);
        self.rings.work = true;
        let place = place.unwrap_or_else(|| self.places.enter_again(&tenant, 1));
        self.set_phase(id, Phase::Queued { since: now, _place: place });
    }

    /// Takes a waiting job out of its lane. Its phase is the caller's to set, and with the old one its place goes.
    pub(super) fn dequeue(&mut self, id: &JobId) {
        let Some(record) = self.jobs.get(id) else { return };
        let (lane, tenant) = (&record.submission.lane, &record.submission.job.tenant);
        if let Some(queues) = self.lanes.get_mut(lane) {
            if let Some(queue) = queues.get_mut(tenant) {
                queue.remove(&record.ticket);
                if queue.is_empty() {
                    queues.remove(tenant);
                }
            }
            if queues.is_empty() {
                self.lanes.remove(lane);
            }
        }
        self.counters.depart(tenant);
    }

    /// Moves a job to another phase, and keeps its due time and who holds it in step.
    pub(super) fn set_phase(&mut self, id: &JobId, phase: Phase) {
        let Some(record) = self.jobs.get_mut(id) else { return };
        if let Some(due) = record.due() {
            self.due.remove(&(due, id.clone()));
        }
        let before = std::mem::replace(&mut record.phase, phase);
        let tenant = &record.submission.job.tenant;
        if let Phase::Running { node, .. } = &record.phase {
            *self.held.entry(node.clone()).or_default().entry(tenant.clone()).or_default() += 1;
        }
        if let Phase::Running { node, .. } = &before {
            release(&mut self.held, node, tenant);
        }
        if let Some(due) = record.due() {
            self.due.insert((due, id.clone()));
        }
    }

    pub(super) fn cancel(&mut self, id: &JobId, now: Instant) -> Cancelled {
        let Some(record) = self.jobs.get_mut(id) else { return Cancelled::Over };
        match &mut record.phase {
            Phase::Over { .. } => Cancelled::Over,
            Phase::Queued { .. } => {
                self.dequeue(id);
                self.end_unsaid(id, Outcome::CallerLeft, JobFailure::ShuttingDown, now);
                Cancelled::Queued
            }
            Phase::Running { node, cancelled, .. } => {
                if !std::mem::replace(cancelled, true) {
                    let lease = Lease { job: id.clone(), attempt: record.attempt };
                    self.cancellations.post(node, lease, now);
                    self.rings.cancellations = true;
                }
                Cancelled::Running
            }
        }
    }

    pub(super) fn resume(&mut self, id: &JobId, tokens: Vec<TokenId>) -> bool {
        let Some(record) = self.jobs.get_mut(id) else { return false };
        let waits = matches!(record.phase, Phase::Queued { .. });
        if waits {
            record.hand_in(tokens);
        }
        waits
    }
}

impl Record {
    /// Takes what the client already has for the next delivery.
    pub(super) fn hand_in(&mut self, tokens: Vec<TokenId>) {
        // Never fewer than before: an older message may come late.
        if tokens.len() >= self.submission.job.resume.len() {
            self.submission.job.resume = tokens;
        }
    }

    /// When this record changes by time alone: a waiting job at its deadline, a running one when its lease expires, one
    /// that is over when it is forgotten.
    pub(super) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Queued { .. } => self.deadline,
            Phase::Running { expires, .. } => Some(expires),
            Phase::Over { forget } => Some(forget),
        }
    }
}

impl Phase {
    fn state(&self) -> JobState {
        match self {
            Self::Queued { .. } => JobState::Queued,
            Self::Running { .. } => JobState::Running,
            Self::Over { .. } => JobState::Over,
        }
    }
}

impl Pace {
    /// Takes note of a claim. Exponential average over about ten claims; a gap counts for at most a minute, so that an
    /// idle night does not look like a slow node.
    pub(super) fn claimed(&mut self, now: Instant) {
        if let Some(last) = self.last_claim.replace(now) {
            let gap = now.duration_since(last).as_secs_f64().min(60.0);
            self.seconds_per_claim += 0.1 * (gap - self.seconds_per_claim);
        }
    }
}

/// How the places of waiting jobs are shared.
fn rules(config: &QueueConfig) -> Rules {
    Rules::with_an_eighth_kept(config.max_queued as u64, 1, config.max_queued_per_tenant as u64)
}

/// Notes that a node holds one job less of a tenant.
fn release(held: &mut HashMap<NodeId, HashMap<TenantId, usize>>, node: &NodeId, tenant: &TenantId) {
    let Some(of_node) = held.get_mut(node) else { return };
    let Some(count) = of_node.get_mut(tenant) else { return };
    *count -= 1;
    if *count == 0 {
        of_node.remove(tenant);
    }
    if of_node.is_empty() {
        held.remove(node);
    }
}
