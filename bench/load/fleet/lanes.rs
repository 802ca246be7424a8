//! Who waits where, and whose turn it is: a virtual token counter for each tenant of the pool, as in `souk-queue`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::clock::Moment;
use super::node::Job;

/// Names a tenant.
pub(super) type Tenant = usize;

/// A node's place in the fleet; `None` is the lane of jobs that any node may take.
pub(super) type LaneOf = Option<usize>;

/// The jobs that wait.
#[derive(Debug)]
pub(super) struct Lanes {
    lanes: HashMap<LaneOf, Lane>,
    /// Lanes by how long their oldest job has waited.
    oldest: BTreeSet<(Moment, LaneOf)>,
    counters: Vec<f64>,
    /// Jobs of each tenant that wait.
    waiting: Vec<usize>,
    /// Tenants of whom some wait, by their counters, whose bits sort as they do.
    by_counter: BTreeSet<(u64, Tenant)>,
    next_ticket: u64,
}

#[derive(Debug, Default)]
struct Lane {
    tenants: BTreeMap<Tenant, VecDeque<Waiting>>,
    /// All that wait here, by when they came.
    since: BTreeSet<(Moment, u64)>,
}

/// A job that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) tenant: Tenant,
    pub(super) since: Moment,
    /// What it costs its tenant.
    pub(super) price: f64,
    ticket: u64,
}

impl Lanes {
    pub(super) fn new(num_tenants: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            oldest: BTreeSet::new(),
            counters: vec![0.0; num_tenants],
            waiting: vec![0; num_tenants],
            by_counter: BTreeSet::new(),
            next_ticket: 0,
        }
    }

    /// A job comes, or comes back.
    pub(super) fn enqueue(&mut self, lane: LaneOf, job: Job, tenant: Tenant, since: Moment, price: f64) {
        let waiting = Waiting { job, tenant, since, price, ticket: self.next_ticket };
        self.next_ticket += 1;
        self.put(lane, waiting);
    }

    fn put(&mut self, lane: LaneOf, waiting: Waiting) {
        let tenant = waiting.tenant;
        if self.waiting[tenant] == 0 {
            // Idling earns no credit.
            let least = self.by_counter.first().map_or(0.0, |(bits, _)| f64::from_bits(*bits));
            self.counters[tenant] = self.counters[tenant].max(least);
            self.by_counter.insert((self.counters[tenant].to_bits(), tenant));
        }
        self.waiting[tenant] += 1;
        self.reorder(lane, |of_lane| {
            of_lane.since.insert((waiting.since, waiting.ticket));
            of_lane.tenants.entry(tenant).or_default().push_back(waiting);
        });
    }

    pub(super) fn queued(&self, lane: LaneOf) -> usize {
        self.lanes.get(&lane).map_or(0, |lane| lane.since.len())
    }

    /// Takes the job whose turn it is among those that wait in these lanes.
    pub(super) fn take(&mut self, lanes: &[LaneOf]) -> Option<Waiting> {
        let heads = lanes.iter().filter_map(|lane| Some((*lane, self.lanes.get(lane)?)));
        let heads = heads.flat_map(|(lane, of_lane)| of_lane.tenants.values().map(move |queue| (lane, &queue[0])));
        let key = |one: &Waiting| (self.counters[one.tenant].to_bits(), one.ticket);
        let (lane, next) = heads.min_by_key(|(_, waiting)| key(waiting)).map(|(lane, waiting)| (lane, *waiting))?;
        self.reorder(lane, |of_lane| {
            of_lane.since.remove(&(next.since, next.ticket));
            let queue = of_lane.tenants.get_mut(&next.tenant).expect("its head was just seen");
            queue.pop_front();
            if queue.is_empty() {
                of_lane.tenants.remove(&next.tenant);
            }
        });
        self.charge(next.tenant, next.price);
        Some(next)
    }

    /// The lane that has waited longest, if that is longer than since `before`.
    pub(super) fn behind(&self, before: Moment) -> Option<LaneOf> {
        self.oldest.first().filter(|(since, _)| *since <= before).map(|(_, lane)| *lane)
    }

    /// Makes a lane everyone's.
    pub(super) fn open(&mut self, lane: usize) {
        let Some(of_lane) = self.lanes.remove(&Some(lane)) else { return };
        if let Some((since, _)) = of_lane.since.first() {
            self.oldest.remove(&(*since, Some(lane)));
        }
        for waiting in of_lane.tenants.into_values().flatten() {
            self.reorder(None, |free| {
                free.since.insert((waiting.since, waiting.ticket));
                free.tenants.entry(waiting.tenant).or_default().push_back(waiting);
            });
        }
    }

    fn charge(&mut self, tenant: Tenant, price: f64) {
        self.by_counter.remove(&(self.counters[tenant].to_bits(), tenant));
        self.waiting[tenant] -= 1;
        self.counters[tenant] += price;
        if self.waiting[tenant] > 0 {
            self.by_counter.insert((self.counters[tenant].to_bits(), tenant));
        }
    }

    /// Changes a lane, and keeps the lanes in the order of their oldest jobs.
    fn reorder(&mut self, lane: LaneOf, change: impl FnOnce(&mut Lane)) {
        let of_lane = self.lanes.entry(lane).or_default();
        let before = of_lane.since.first().map(|(since, _)| *since);
        change(of_lane);
        let after = of_lane.since.first().map(|(since, _)| *since);
        if before != after {
            if let Some(since) = before {
                self.oldest.remove(&(since, lane));
            }
            if let Some(since) = after {
                self.oldest.insert((since, lane));
            }
        }
        if after.is_none() {
            self.lanes.remove(&lane);
        }
    }
}
