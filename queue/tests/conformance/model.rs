//! Random operations against a plain model, which goes by the clock of the queue that it is held against.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use souk_protocol::{JobFailure, JobId, Outcome};
use souk_queue::{Cancelled, Delivery, NoticeKind, QueueConfig, Settled, Settlement, WRITE_DOWN};

use crate::gateways::with_account;
use crate::support::*;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Submit { tenant: u8, lane: u8, prompt: u8, deadline_ms: Option<u16>, account: bool },
    Claim { node: u8, max_jobs: u8 },
    Renew { pick: u8, output: u8 },
    Finish { pick: u8, output: u8 },
    Fail { pick: u8 },
    GiveBack { pick: u8 },
    Cancel { pick: u8 },
    Heartbeat { node: u8 },
    Retire { node: u8 },
    Live,
    Adopt,
    Acknowledge { pick: u8 },
    Pass { millis: u16 },
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..4u8, 0..4u8, 1..50u8, prop::option::weighted(0.2, 1..500u16), any::<bool>())
            .prop_map(|(tenant, lane, prompt, deadline_ms, account)| {
                Op::Submit { tenant, lane, prompt, deadline_ms, account }
            }),
        6 => (0..4u8, 1..4u8).prop_map(|(node, max_jobs)| Op::Claim { node, max_jobs }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(pick, output)| Op::Renew { pick, output }),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(pick, output)| Op::Finish { pick, output }),
        2 => any::<u8>().prop_map(|pick| Op::Fail { pick }),
        1 => any::<u8>().prop_map(|pick| Op::GiveBack { pick }),
        2 => any::<u8>().prop_map(|pick| Op::Cancel { pick }),
        3 => (0..4u8).prop_map(|node| Op::Heartbeat { node }),
        1 => (0..4u8).prop_map(|node| Op::Retire { node }),
        2 => Just(Op::Live),
        2 => Just(Op::Adopt),
        2 => any::<u8>().prop_map(|pick| Op::Acknowledge { pick }),
        3 => (1..200u16).prop_map(|millis| Op::Pass { millis }),
    ]
}

/// What the model knows of a job. It does not model turns, only rights: who may hold what, and what must come of it.
#[derive(Debug)]
struct Known {
    number: usize,
    tenant: u8,
    deadline: Option<Duration>,
    attempt: u32,
    /// Deliveries that count.
    deliveries: u32,
    state: State,
    /// Whether others can write it down.
    has_account: bool,
    is_written: bool,
    /// When another that was given it has to have written it down.
    given_until: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Queued,
    Running { until: Duration, cancelled: bool },
    Over,
}

#[derive(Default)]
struct Model {
    /// What the queue's clock had counted at its last step.
    now: Duration,
    /// When the gateway said something last.
    seen: Duration,
    jobs: BTreeMap<JobId, Known>,
    /// All deliveries ever, the stale ones too.
    deliveries: Vec<Delivery>,
    expired: BTreeSet<JobId>,
    dead: BTreeSet<JobId>,
}

impl Model {
    /// Moves time on: leases expire, deadlines pass.
    fn settle_time(&mut self, queue: &Queue, max_deliveries: u32) {
        self.now = queue.now();
        let now = self.now;
        let is_lost = self.is_lost();
        for (id, known) in &mut self.jobs {
            if let State::Running { until, cancelled } = known.state
                && until <= now
            {
                known.state = if cancelled {
                    State::Over
                } else if known.deadline.is_some_and(|deadline| deadline <= now) {
                    self.expired.insert(id.clone());
                    State::Over
                } else if known.has_account && is_lost {
                    State::Over
                } else if known.deliveries >= max_deliveries {
                    self.dead.insert(id.clone());
                    State::Over
                } else {
                    State::Queued
                };
            }
            if known.state == State::Queued && known.deadline.is_some_and(|deadline| deadline <= now) {
                known.state = State::Over;
                self.expired.insert(id.clone());
            }
        }
    }

    fn is_lost(&self) -> bool {
        self.seen + HEARTBEAT_TIMEOUT <= self.now
    }

    fn count(&self, matches: impl Fn(&State) -> bool) -> usize {
        self.jobs.values().filter(|known| matches(&known.state)).count()
    }

    fn pick(&self, pick: u8) -> Option<Delivery> {
        (!self.deliveries.is_empty()).then(|| self.deliveries[pick as usize % self.deliveries.len()].clone())
    }

    fn holds(&self, delivery: &Delivery) -> bool {
        let known = &self.jobs[&delivery.lease.job];
        known.attempt == delivery.lease.attempt && matches!(known.state, State::Running { .. })
    }

    fn on_claim(&mut self, claimed: Vec<Delivery>, lease: Duration) {
        for delivery in claimed {
            let known = self.jobs.get_mut(&delivery.lease.job).expect("only what was submitted is delivered");
            assert_eq!(known.state, State::Queued, "only what waits is delivered");
            known.attempt += 1;
            known.deliveries += 1;
            assert_eq!(delivery.lease.attempt, known.attempt, "attempts count up by one");
            known.state = State::Running { until: self.now + lease, cancelled: false };
            self.deliveries.push(delivery);
        }
    }
}

fn long_remembered() -> QueueConfig {
    QueueConfig { remember_over: Duration::from_secs(3600), ..config() }
}

async fn run(queue: Queue, config: QueueConfig, ops: Vec<Op>) {
    let mut model = Model::default();
    for (number, op) in ops.into_iter().enumerate() {
        match op {
            Op::Submit { tenant, lane, prompt, deadline_ms, account } => {
                let mut submission = in_lane(&lane.to_string(), job(&tenant.to_string(), prompt.into()));
                if account {
                    submission = with_account(submission);
                }
                let after = deadline_ms.map(|millis| Duration::from_millis(u64::from(millis) * 1000 + 500));
                if let Some(after) = after {
                    submission = with_deadline(after, submission);
                }
                let id = submit(&queue, submission).await;
                model.settle_time(&queue, config.max_deliveries);
                let deadline = after.map(|after| model.now + after);
                model.seen = model.now;
                let known = Known {
                    number,
                    tenant,
                    deadline,
                    attempt: 0,
                    deliveries: 0,
                    state: State::Queued,
                    has_account: account,
                    is_written: false,
                    given_until: None,
                };
                model.jobs.insert(id, known);
            }
            Op::Claim { node, max_jobs } => {
                let claimed = claim(&queue, &node.to_string(), max_jobs.into()).await;
                model.settle_time(&queue, config.max_deliveries);
                let waiting = model.count(|state| *state == State::Queued);
                assert!(claimed.len() <= usize::from(max_jobs).min(waiting));
                model.on_claim(claimed, config.lease);
            }
            Op::Renew { pick, output } => {
                let Some(delivery) = model.pick(pick) else { continue };
                let renewed = renew(&queue, &delivery, output.into()).await;
                model.settle_time(&queue, config.max_deliveries);
                assert_eq!(renewed, model.holds(&delivery));
                if model.holds(&delivery)
                    && let State::Running { until, .. } = &mut model.jobs.get_mut(&delivery.lease.job).unwrap().state
                {
                    *until = model.now + config.lease;
                }
            }
            Op::Finish { pick, output } => {
                let Some(delivery) = model.pick(pick) else { continue };
                let settlement = over(&delivery, Outcome::Length, output.into());
                settle(&queue, &mut model, pick, settlement, config.max_deliveries).await;
            }
            Op::Fail { pick } => {
                let settlement = Settlement::Retry { reason: "no".to_owned() };
                settle(&queue, &mut model, pick, settlement, config.max_deliveries).await;
            }
            Op::GiveBack { pick } => {
                settle(&queue, &mut model, pick, Settlement::GiveBack, config.max_deliveries).await;
            }
            Op::Cancel { pick } => cancel(&queue, &mut model, pick, config.max_deliveries).await,
            Op::Heartbeat { node } => heartbeat(&queue, &node.to_string()).await,
            Op::Retire { node: number } => queue.retire(pool(), &node(&number.to_string())).await.unwrap(),
            Op::Live => {
                queue.gateway_heartbeat(pool(), &gateway(), &[]).await.unwrap();
                model.settle_time(&queue, config.max_deliveries);
                model.seen = model.now;
            }
            Op::Adopt => adopt(&queue, &mut model, config.max_deliveries).await,
            Op::Acknowledge { pick } => {
                let ids: Vec<_> = model.jobs.keys().cloned().collect();
                let Some(id) = ids.get(pick as usize % ids.len().max(1)) else { continue };
                queue.acknowledge(pool(), std::slice::from_ref(&id.request)).await.unwrap();
                model.jobs.get_mut(id).unwrap().is_written = true;
            }
            Op::Pass { millis } => pass(&queue, Duration::from_millis(u64::from(millis) * 10)).await,
        }
        let stats = queue.stats(pool()).await.unwrap();
        model.settle_time(&queue, config.max_deliveries);
        assert_eq!(stats.queued, model.count(|state| *state == State::Queued));
        assert_eq!(stats.running, model.count(|state| matches!(state, State::Running { .. })));
        assert_eq!(stats.queued, stats.lanes.iter().map(|lane| lane.queued).sum::<usize>());
    }
    drain(queue, model, config).await;
}

async fn settle(queue: &Queue, model: &mut Model, pick: u8, settlement: Settlement, max_deliveries: u32) {
    let Some(delivery) = model.pick(pick) else { return };
    let result = queue.settle(pool(), &delivery.lease, settlement.clone()).await;
    model.settle_time(queue, max_deliveries);
    let held = model.holds(&delivery);
    assert_eq!(result.is_ok(), held, "{result:?}");
    if !held {
        return;
    }
    let id = delivery.lease.job;
    let is_lost = model.is_lost();
    let known = model.jobs.get_mut(&id).unwrap();
    let cancelled = matches!(known.state, State::Running { cancelled: true, .. });
    let is_left = known.has_account && is_lost;
    let late = known.deadline.is_some_and(|deadline| deadline <= model.now);
    known.state = match settlement {
        _ if cancelled => State::Over,
        Settlement::Over { .. } => State::Over,
        _ if late => {
            model.expired.insert(id);
            State::Over
        }
        _ if is_left => State::Over,
        Settlement::Retry { .. } if known.deliveries >= max_deliveries => {
            model.dead.insert(id);
            State::Over
        }
        Settlement::Retry { .. } => State::Queued,
        Settlement::GiveBack => {
            known.deliveries -= 1;
            State::Queued
        }
    };
}

async fn cancel(queue: &Queue, model: &mut Model, pick: u8, max_deliveries: u32) {
    let ids: Vec<_> = model.jobs.keys().cloned().collect();
    if ids.is_empty() {
        return;
    }
    let id = &ids[pick as usize % ids.len()];
    let cancelled = queue.cancel(pool(), id).await.unwrap();
    model.settle_time(queue, max_deliveries);
    let known = model.jobs.get_mut(id).unwrap();
    let (expected, state) = match known.state {
        State::Queued => (Cancelled::Queued, State::Over),
        State::Running { until, .. } => (Cancelled::Running, State::Running { until, cancelled: true }),
        State::Over => (Cancelled::Over, State::Over),
    };
    known.state = state;
    assert_eq!(cancelled, expected);
}

/// Another gateway asks for what is left: it is given each request that nobody has written down, as often as it has to be.
async fn adopt(queue: &Queue, model: &mut Model, max_deliveries: u32) {
    let other = souk_protocol::GatewayId::from_stored("other");
    let given = queue.next_orphaned(pool(), &other, Duration::ZERO).await.unwrap();
    model.settle_time(queue, max_deliveries);
    let (now, is_lost) = (model.now, model.is_lost());
    let mut expected = BTreeSet::new();
    for (id, known) in model.jobs.iter_mut().filter(|(_, known)| known.has_account) {
        if is_lost && known.state == State::Queued && !known.is_written {
            known.state = State::Over;
        }
        let is_left = known.given_until.map_or(is_lost, |until| until <= now);
        if is_left && known.state == State::Over && !known.is_written {
            known.given_until = Some(now + WRITE_DOWN);
            expected.insert(id.request.clone());
        }
    }
    assert!(given.iter().all(|orphan| orphan.jobs.len() == 1));
    assert_eq!(given.into_iter().map(|orphan| orphan.request).collect::<BTreeSet<_>>(), expected);
}

/// Lets every node die, takes all that is left with a new one, and checks that each job came to its end.
async fn drain(queue: Queue, mut model: Model, config: QueueConfig) {
    pass(&queue, config.lease.max(config.heartbeat_timeout)).await;
    let left = claim(&queue, "last", usize::MAX).await;
    model.settle_time(&queue, config.max_deliveries);
    let mut in_order: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for delivery in &left {
        let known = &model.jobs[&delivery.lease.job];
        in_order.entry(known.tenant).or_default().push(known.number);
    }
    assert!(in_order.values().all(|numbers| numbers.is_sorted()), "first in, first out inside a tenant: {in_order:?}");
    model.on_claim(left, config.lease);
    assert_eq!(model.count(|state| *state == State::Queued), 0, "nothing is lost");
    let mut settled: BTreeMap<JobId, Vec<Settled>> = BTreeMap::new();
    for notice in queue.next_notices(pool(), &gateway(), Duration::ZERO).await.unwrap() {
        if let NoticeKind::Settled(how) = notice.kind {
            settled.entry(notice.job).or_default().push(how);
        }
    }
    for (id, known) in &model.jobs {
        let num_settled = settled.get(id).map_or(0, Vec::len);
        assert_eq!(num_settled, usize::from(known.state == State::Over), "each job that is over is settled once: {id}");
    }
    let is_expired = |how: &Settled| how.untold == Some(JobFailure::DeadlineExceeded);
    let expired: BTreeSet<_> =
        settled.iter().filter(|(_, how)| how.iter().any(is_expired)).map(|(id, _)| id.clone()).collect();
    assert_eq!(expired, model.expired);
    let dead: BTreeSet<_> =
        queue.dead_letters(pool()).await.unwrap().into_iter().map(|letter| letter.submission.job.id).collect();
    assert_eq!(dead, model.dead);
}

/// Runs a case in memory, where time passes at once.
pub(crate) fn in_memory(config: QueueConfig, case: impl AsyncFnOnce(Queue)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { case(Queue::in_memory(config)).await });
}

/// Runs a case in a Redis that all cases of a test have in common, after everything in it is gone.
#[cfg(has_redis)]
pub(crate) fn in_redis(config: QueueConfig, case: impl AsyncFnOnce(Queue)) {
    use std::sync::{Arc, LazyLock};

    static SERVER: LazyLock<Arc<Server>> =
        LazyLock::new(|| Arc::new(Server::new(souk_testkit::redis::Redis::that_forgets())));
    SERVER.redis.lock().unwrap().cli(&["FLUSHALL"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { case(Queue::of_server(Arc::clone(&SERVER), config)).await });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_order_of_operations_loses_repeats_or_confuses_a_job(ops in prop::collection::vec(op(), 1..60)) {
        in_memory(long_remembered(), async |queue| run(queue, long_remembered(), ops).await);
    }
}

#[cfg(has_redis)]
proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn in_redis_no_order_of_operations_loses_repeats_or_confuses_a_job(ops in prop::collection::vec(op(), 1..60)) {
        in_redis(long_remembered(), async |queue| run(queue, long_remembered(), ops).await);
    }
}
