//! Who waits behind whom for adapters: state and `now` in, decisions out. There is no lock, no await and no
//! notification in here; `store.rs` has those, and `residency.rs` knows what is where and how much room there is.
//!
//! A request goes through these queues, each of them first in, first out:
//!
//! 1. **Gatherers**: requests for several adapters gather them one after the other. Each other request goes past here.
//! 2. **Overtakers**: requests whose adapters are in memory are granted them at once although others wait for room, but
//!    not without bound: see below. One that may not yet waits here and holds nothing.
//! 3. **Loads**: an adapter that is not in memory is loaded once, however many requests wait for it (single-flight), in
//!    one of a bounded number of slots, since each takes memory for its files.
//! 4. **Host**: loads that wait for host memory.
//! 5. **Device**: packed adapters that wait for room on the device. Once they have it, their requests are granted.
//!
//! # Overtaking is bounded
//!
//! A request for an adapter in memory takes nothing that is free, but it keeps in use what others wait for: with enough
//! of those, no adapter in memory would ever be idle, and one that is not would never come in. So they are counted.
//! While an adapter is the first of queue 4 or 5, at most [`MAX_OVERTAKES`] requests that came later enter past it, for
//! any mix of requests; then it is served at the latest when the leases end that were held at that moment. With `n`
//! adapters before its own in the queue it is overtaken at most `(n + 1) * MAX_OVERTAKES` times there.
//!
//! # There is no deadlock
//!
//! A request for one adapter holds nothing while it waits. Two requests for several that each held one and waited for
//! the other's would deadlock, so only the first of the gatherers holds any, and what it waits for never waits for what
//! it holds:
//!
//! - It has a load slot of its own if all are taken: those loads may be waiting for host memory that it holds.
//! - It is admitted to host memory and to the device without being the first there, who may need what it holds.
//! - It keeps adapters on the device only once all of its own are in host memory. Before that, an adapter that waits
//!   for the device could hold the host memory that the gatherer waits for, and wait for the device memory that it
//!   holds.
//!
//! What remains to wait for are loads at work and leases of running requests, and those end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::entry::EntryId;
use super::error::Tier;
use super::limits::AdapterLimits;

/// Most requests that overtake the first of a queue: about what a full batch begins while one of its answers runs.
pub(super) const MAX_OVERTAKES: usize = 32;

/// Names a request for adapters; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RequestId(u64);

/// For whom something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request that waits.
    Request,
    /// One that may come. Nothing ever waits for its sake.
    Prefetch,
}

/// In which tiers a request would keep in use what others wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Overtakes {
    pub(super) host: bool,
    pub(super) device: bool,
}

/// Where everybody stands who waits.
#[derive(Debug)]
pub(super) struct Waiting {
    max_wait: Duration,
    max_loads: usize,
    max_prefetches: usize,
    requests: HashMap<RequestId, Waiter>,
    next_request: u64,
    gatherers: VecDeque<RequestId>,
    overtakers: VecDeque<RequestId>,
    load_queue: VecDeque<EntryId>,
    /// Loads that have a slot.
    loads: HashMap<EntryId, Purpose>,
    host: Queue,
    device: Queue,
}

/// A request that has not been granted its adapters.
#[derive(Debug)]
struct Waiter {
    asked_at: Instant,
    /// It asks for several adapters.
    gathers: bool,
    /// What it asks for; empty until it has entered.
    adapters: Vec<EntryId>,
    /// It keeps its adapters on the device, or waits for them to come there.
    holds: bool,
}

/// What a request had when it left.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) adapters: Vec<EntryId>,
    pub(super) held: bool,
}

impl Waiting {
    pub(super) fn new(limits: &AdapterLimits) -> Self {
        Self {
            max_wait: limits.max_wait,
            max_loads: limits.max_concurrent_loads,
            max_prefetches: limits.max_prefetches,
            requests: HashMap::new(),
            next_request: 0,
            gatherers: VecDeque::new(),
            overtakers: VecDeque::new(),
            load_queue: VecDeque::new(),
            loads: HashMap::new(),
            host: Queue::default(),
            device: Queue::default(),
        }
    }

    /// A request for so many adapters comes.
    pub(super) fn ask(&mut self, num_adapters: usize, now: Instant) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let gathers = num_adapters > 1;
        self.requests.insert(id, Waiter { asked_at: now, gathers, adapters: Vec::new(), holds: !gathers });
        if gathers {
            self.gatherers.push_back(id);
        }
        id
    }

    /// How long the request has waited.
    pub(super) fn waited(&self, id: RequestId, now: Instant) -> Duration {
        self.requests.get(&id).map_or(Duration::ZERO, |waiter| now.saturating_duration_since(waiter.asked_at))
    }

    /// Whether it has waited for so long that it is to be refused.
    pub(super) fn is_late(&self, id: RequestId, now: Instant) -> bool {
        self.waited(id, now) >= self.max_wait
    }

    /// Whether the request may go on to its adapters, past queues 1 and 2. If so, it has to [`join`](Self::join) them.
    pub(super) fn enter(&mut self, id: RequestId, overtakes: Overtakes) -> bool {
        let Some(waiter) = self.requests.get(&id) else { return false };
        if waiter.gathers && self.gatherers.front() != Some(&id) {
            return false;
        }
        // A gatherer is admitted without being the first, wherever its adapters are.
        let overtakes = if waiter.gathers { Overtakes { host: true, device: true } } else { overtakes };
        if overtakes.host || overtakes.device {
            let is_next = self.overtakers.front().is_none_or(|first| *first == id);
            let may = (!overtakes.host || self.host.may_be_overtaken())
                && (!overtakes.device || self.device.may_be_overtaken());
            if !is_next || !may {
                if !self.overtakers.contains(&id) {
                    self.overtakers.push_back(id);
                }
                return false;
            }
            self.host.count_overtake(overtakes.host);
            self.device.count_overtake(overtakes.device);
        }
        self.overtakers.retain(|other| *other != id);
        true
    }

    /// Notes what a request that has entered asks for.
    pub(super) fn join(&mut self, id: RequestId, adapter: EntryId) {
        if let Some(waiter) = self.requests.get_mut(&id) {
            waiter.adapters.push(adapter);
        }
        self.start_loads();
    }

    /// What the request asks for; empty until it has entered.
    pub(super) fn adapters(&self, id: RequestId) -> &[EntryId] {
        self.requests.get(&id).map_or(&[], |waiter| &waiter.adapters)
    }

    /// Whether a request that enters keeps its adapters on the device from then on. A gatherer does later.
    pub(super) fn holds(&self, id: RequestId) -> bool {
        self.requests.get(&id).is_some_and(|waiter| waiter.holds)
    }

    /// Lets a gatherer keep its adapters on the device from now on, if all of them are in host memory. True at most
    /// once.
    pub(super) fn hold(&mut self, id: RequestId, is_in_memory: impl Fn(EntryId) -> bool) -> bool {
        let Some(waiter) = self.requests.get_mut(&id) else { return false };
        let begins = !waiter.holds && !waiter.adapters.is_empty() && waiter.adapters.iter().all(|id| is_in_memory(*id));
        waiter.holds |= begins;
        begins
    }

    /// The request goes: it is granted, refused or cancelled. It waits nowhere afterwards.
    pub(super) fn leave(&mut self, id: RequestId) -> Option<Left> {
        let waiter = self.requests.remove(&id)?;
        self.gatherers.retain(|other| *other != id);
        self.overtakers.retain(|other| *other != id);
        Some(Left { adapters: waiter.adapters, held: waiter.holds })
    }

    /// Whether a prefetch may begin to load. There is no queue for these: it begins now or not at all.
    pub(super) fn has_prefetch_slot(&self) -> bool {
        self.loads.values().filter(|purpose| **purpose == Purpose::Prefetch).count() < self.max_prefetches
    }

    /// An adapter is to be loaded.
    pub(super) fn begin_load(&mut self, adapter: EntryId, purpose: Purpose) {
        match purpose {
            Purpose::Request => self.load_queue.push_back(adapter),
            Purpose::Prefetch => drop(self.loads.insert(adapter, purpose)),
        }
        self.start_loads();
    }

    /// Whether the load has its slot.
    pub(super) fn may_load(&self, adapter: EntryId) -> bool {
        self.loads.contains_key(&adapter)
    }

    /// The load is over, whatever came of it.
    pub(super) fn end_load(&mut self, adapter: EntryId) {
        self.loads.remove(&adapter);
        self.load_queue.retain(|other| *other != adapter);
        self.start_loads();
    }

    fn start_loads(&mut self) {
        let num_started = self.loads.values().filter(|purpose| **purpose == Purpose::Request).count();
        for _ in num_started..self.max_loads {
            let Some(next) = self.load_queue.pop_front() else { return };
            self.loads.insert(next, Purpose::Request);
        }
        let gathered = self.gathered();
        if !gathered.iter().any(|adapter| self.loads.contains_key(adapter))
            && let Some(at) = self.load_queue.iter().position(|adapter| gathered.contains(adapter))
        {
            self.loads.extend(self.load_queue.remove(at).map(|adapter| (adapter, Purpose::Request)));
        }
    }

    /// An adapter waits for room in a tier. It waits there once, however often this is said.
    pub(super) fn queue(&mut self, tier: Tier, adapter: EntryId) {
        let queue = self.queue_of(tier);
        if !queue.waiting.contains(&adapter) {
            queue.waiting.push_back(adapter);
        }
    }

    /// An adapter waits no longer: nobody wants it any more.
    pub(super) fn withdraw(&mut self, tier: Tier, adapter: EntryId) {
        self.queue_of(tier).remove(adapter);
    }

    /// Grants room to those that wait for it. `grant` is asked for one after the other, and says whether there was
    /// room. The first of a queue is not overtaken by others in it, so that a large adapter has its turn although small
    /// ones would fit all the time. The gatherer's adapters alone need not be first. Returns whether anybody was
    /// admitted.
    pub(super) fn admit(&mut self, tier: Tier, mut grant: impl FnMut(EntryId) -> bool) -> bool {
        let gathered = self.gathered();
        let queue = self.queue_of(tier);
        let num_waiting = queue.waiting.len();
        while let Some(&first) = queue.waiting.front()
            && grant(first)
        {
            queue.remove(first);
        }
        // Last, so that what is asked of the KV side in the end is what the gatherer needs.
        for adapter in gathered {
            if queue.waiting.contains(&adapter) && grant(adapter) {
                queue.remove(adapter);
            }
        }
        queue.waiting.len() < num_waiting
    }

    /// Whether an adapter waits for room in the tier.
    pub(super) fn is_queued(&self, tier: Tier) -> bool {
        let queue = match tier {
            Tier::Host => &self.host,
            Tier::Device => &self.device,
        };
        !queue.waiting.is_empty()
    }

    /// Whether nobody waits anywhere and no load has a slot.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let requests = self.requests.is_empty() && self.gatherers.is_empty() && self.overtakers.is_empty();
        let loads = self.load_queue.is_empty() && self.loads.is_empty();
        requests && loads && self.host.waiting.is_empty() && self.device.waiting.is_empty()
    }

    /// What the gatherer whose turn it is asks for, if it has entered.
    fn gathered(&self) -> Vec<EntryId> {
        self.gatherers.front().map_or(Vec::new(), |first| self.adapters(*first).to_vec())
    }

    fn queue_of(&mut self, tier: Tier) -> &mut Queue {
        match tier {
            Tier::Host => &mut self.host,
            Tier::Device => &mut self.device,
        }
    }
}

/// Adapters that wait for room in one tier.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<EntryId>,
    /// How many requests have overtaken the one that is first now.
    num_overtakes: usize,
}

impl Queue {
    fn remove(&mut self, adapter: EntryId) {
        if self.waiting.front() == Some(&adapter) {
            self.waiting.pop_front();
            self.num_overtakes = 0;
        } else {
            self.waiting.retain(|other| *other != adapter);
        }
    }

    fn may_be_overtaken(&self) -> bool {
        self.waiting.is_empty() || self.num_overtakes < MAX_OVERTAKES
    }

    fn count_overtake(&mut self, is_overtaken: bool) {
        self.num_overtakes += usize::from(is_overtaken && !self.waiting.is_empty());
    }
}

#[cfg(test)]
mod tests;
