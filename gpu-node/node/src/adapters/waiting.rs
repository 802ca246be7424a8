//! Who waits behind whom for adapters: state and `now` in, decisions out. There is no lock, no await and no
//! notification in here; `store.rs` has those, and `residency.rs` knows what is where and how much room there is.
//!
//! A request goes through these queues, each of them first in, first out:
//!
//! 1. **Gatherers**: requests for several adapters gather them one after the other, those of different tenants in turn.
//!    Each other request goes past here.
//! 2. **Overtakers**: requests whose adapters are in memory are granted them at once although others wait for room, but
//!    not without bound: see below. One that may not yet waits here and holds nothing.
//! 3. **Loads**: an adapter that is not in memory is loaded once, however many requests wait for it (single-flight), in
//!    one of a bounded number of slots, since each takes memory for its files.
//! 4. **Host**: loads that wait for host memory.
//! 5. **Device**: packed adapters that wait for room on the device. Once they have it, their requests are granted.
//!
//! # Tenants take turns
//!
//! In queues 3, 4 and 5 whoever has least is served first, and of those the one who came first. Load slots are shared
//! by a gate's rules: while others wait a tenant has an even part, and where there are several slots one is kept for
//! whoever has none. An adapter for which requests of several tenants wait is served in the best of their turns; its
//! load then counts for the tenant in whose turn it began, and for nobody else. When it comes to room in the turn of a
//! tenant that the reserve is for, those that may not have it themselves are sent out to where they were before they
//! entered, so that they use none of the reserve. Of queues 4 and 5 `residency/shares.rs` says who may have how much.
//! One that is refused for its own share holds up nobody; one for which there is no room holds up all that come later,
//! but for those that the reserve is for, which take nothing from it.
//!
//! # Overtaking is bounded
//!
//! A request for an adapter in memory takes nothing that is free, but it keeps in use what others wait for: with enough
//! of those, no adapter in memory would ever be idle, and one that is not would never come in. So they are counted.
//! While an adapter is the first of queue 4 or 5, at most [`MAX_OVERTAKES`] requests that came later enter past it, for
//! any mix of requests; then it is served at the latest when the leases end that were held at that moment. Those that
//! came later and are served before it, since they have less, count in the same way: once they are as many, the queue is
//! served in its order. With `n` adapters before its own in the queue it is overtaken at most `(n + 1) * MAX_OVERTAKES`
//! times there. What comes into the reserve is not counted: it takes nothing from those that wait.
//!
//! # There is no deadlock
//!
//! A request for one adapter holds nothing while it waits. Two requests for several that each held one and waited for
//! the other's would deadlock, so only the first of the gatherers holds any, and what it waits for never waits for what
//! it holds:
//!
//! - It has a load slot of its own if all are taken: those loads may be waiting for host memory that it holds. (Where
//!   as many gatherers have gone whose loads there still work as there are slots, it waits for one of these to end.)
//! - It is admitted to host memory and to the device without being the first there, who may need what it holds.
//! - It keeps adapters on the device only once all of its own are in host memory. Before that, an adapter that waits
//!   for the device could hold the host memory that the gatherer waits for, and wait for the device memory that it
//!   holds.
//!
//! What remains to wait for are loads at work and leases of running requests, and those end.

mod loads;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use souk_protocol::gate::{Cause, Rules};

use super::entry::{EntryId, Holder};
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
    /// A request that comes before others without taking what they wait for: into the reserve, of which it asks nothing
    /// of K and V, or as a gatherer into a slot of its own.
    Passing,
    /// One that may come. Nothing ever waits for its sake.
    Prefetch,
}

/// How an adapter comes to room for which others wait too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody waits for room before it.
    Own,
    /// Others wait for room before it: it may take what they are not meant to have.
    Passing,
    /// It is gathered, for the one request that holds something while it waits.
    Gathering,
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
    /// How the slots of loads are shared.
    load_rules: Rules,
    max_prefetches: usize,
    requests: HashMap<RequestId, Waiter>,
    next_request: u64,
    gatherers: VecDeque<RequestId>,
    overtakers: VecDeque<RequestId>,
    /// With the one whose request began it.
    load_queue: VecDeque<(EntryId, Holder)>,
    /// Loads that have a slot, and for whom they count. Of a prefetch that is nobody.
    loads: HashMap<EntryId, (Purpose, Holder)>,
    host: Queue,
    device: Queue,
}

/// A request that has not been granted its adapters.
#[derive(Debug)]
struct Waiter {
    asked_at: Instant,
    holder: Holder,
    /// It asks for several adapters.
    gathers: bool,
    /// What it asks for; empty until it has entered.
    adapters: Vec<EntryId>,
    /// It keeps its adapters on the device, or waits for them to come there.
    holds: bool,
    /// Pages of the device that it waits for before it enters, or as a gatherer before it keeps its adapters there.
    wanted_pages: usize,
}

/// What a request had when it left, or was sent out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) holder: Holder,
    pub(super) adapters: Vec<EntryId>,
    pub(super) held: bool,
    /// It uses them on, in host memory alone.
    pub(super) stays: bool,
}

impl Waiting {
    pub(super) fn new(limits: &AdapterLimits) -> Self {
        let max_loads = limits.max_concurrent_loads as u64;
        Self {
            max_wait: limits.max_wait,
            load_rules: Rules::with_an_eighth_kept(max_loads, 1, max_loads),
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
    pub(super) fn ask(&mut self, num_adapters: usize, holder: &Holder, now: Instant) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let gathers = num_adapters > 1;
        let (holder, holds) = (holder.clone(), !gathers);
        let waiter = Waiter { asked_at: now, holder, gathers, adapters: Vec::new(), holds, wanted_pages: 0 };
        self.requests.insert(id, waiter);
        if gathers {
            self.gatherers.push_back(id);
        }
        id
    }

    /// Whose request it is.
    pub(super) fn holder(&self, id: RequestId) -> Holder {
        self.requests.get(&id).and_then(|waiter| waiter.holder.clone())
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

    /// Notes how many pages of the device have to come free before a request may enter, or [hold](Self::hold).
    pub(super) fn want_beside(&mut self, id: RequestId, pages: usize) {
        if let Some(waiter) = self.requests.get_mut(&id) {
            waiter.wanted_pages = pages;
        }
    }

    /// The most pages that a request wants before it enters or holds.
    pub(super) fn wanted_beside(&self) -> usize {
        self.requests.values().map(|waiter| waiter.wanted_pages).max().unwrap_or_default()
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

    /// Whether a gatherer may begin to keep its adapters on the device: once all of them are in host memory. After it
    /// [holds](Self::hold) them, no more.
    pub(super) fn may_hold(&self, id: RequestId, is_in_memory: impl Fn(EntryId) -> bool) -> bool {
        let Some(waiter) = self.requests.get(&id) else { return false };
        !waiter.holds && !waiter.adapters.is_empty() && waiter.adapters.iter().all(|id| is_in_memory(*id))
    }

    /// A gatherer keeps its adapters on the device from now on.
    pub(super) fn hold(&mut self, id: RequestId) {
        if let Some(waiter) = self.requests.get_mut(&id) {
            waiter.holds = true;
        }
    }

    /// The request goes: it is granted, refused or cancelled. It waits nowhere afterwards.
    pub(super) fn leave(&mut self, id: RequestId) -> Option<Left> {
        let waiter = self.requests.remove(&id)?;
        let had_its_turn = self.gatherers.front() == Some(&id);
        self.gatherers.retain(|other| *other != id);
        if had_its_turn {
            self.pass_the_turn(&waiter.holder);
        }
        self.overtakers.retain(|other| *other != id);
        Some(Left { holder: waiter.holder, adapters: waiter.adapters, held: waiter.holds, stays: false })
    }

    /// The requests of `holder` that wait for an adapter in a tier.
    pub(super) fn that_wait_for(&self, tier: Tier, adapter: EntryId, holder: &Holder) -> Vec<RequestId> {
        let waits = |waiter: &Waiter| waiter.holds || tier == Tier::Host;
        let asks = |waiter: &Waiter| waiter.holder == *holder && waiter.adapters.contains(&adapter);
        self.requests.iter().filter(|(_, waiter)| asks(waiter) && waits(waiter)).map(|(id, _)| *id).collect()
    }

    /// Sends a request back to where it was before it entered, or a gatherer that waits for the device to before it held
    /// its adapters there. Returns what it had until now.
    pub(super) fn send_out(&mut self, id: RequestId, tier: Tier) -> Option<Left> {
        let waiter = self.requests.get_mut(&id)?;
        let (holder, held, stays) = (waiter.holder.clone(), waiter.holds, waiter.gathers && tier == Tier::Device);
        waiter.holds = !waiter.gathers;
        let adapters = if stays { waiter.adapters.clone() } else { std::mem::take(&mut waiter.adapters) };
        Some(Left { holder, adapters, held, stays })
    }

    /// After a gatherer of `holder` the first of anybody else comes, if there is one.
    fn pass_the_turn(&mut self, holder: &Holder) {
        let is_others = |id: &RequestId| self.requests.get(id).is_some_and(|waiter| waiter.holder != *holder);
        if let Some(next) = self.gatherers.iter().position(is_others).and_then(|at| self.gatherers.remove(at)) {
            self.gatherers.push_front(next);
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

    /// Grants room to the next of those that wait for it, whoever has least first; `held` says what the one has that
    /// has least of those who wait for an adapter. `grant` is asked for one after the other. Where it says that there
    /// is no room, only those are asked that pass into the reserve, so that a large adapter has its turn although small
    /// ones would fit all the time. The gatherer's adapters alone need not wait for their turn. Returns whether one was
    /// admitted; then others may be.
    pub(super) fn admit(
        &mut self,
        tier: Tier,
        held: &HashMap<EntryId, u64>,
        mut grant: impl FnMut(EntryId, Turn) -> Result<(), Cause>,
    ) -> bool {
        let gathered = self.gathered();
        let queue = self.queue_of(tier);
        let mut in_turn: Vec<EntryId> = queue.waiting.iter().copied().collect();
        if queue.may_be_overtaken() {
            in_turn.sort_by_key(|adapter| held.get(adapter).copied().unwrap_or_default());
        }
        let mut turn = Turn::Own;
        for adapter in in_turn {
            let (granted, is_first) = (grant(adapter, turn), queue.waiting.front() == Some(&adapter));
            match granted {
                Ok(()) => {
                    queue.remove(adapter);
                    queue.count_overtake(turn == Turn::Own && !is_first);
                    return true;
                }
                Err(Cause::Full) => turn = Turn::Passing,
                Err(Cause::Share) => {}
            }
            if is_first {
                queue.waits_for_share = granted == Err(Cause::Share);
            }
        }
        // Last, so that what is asked of the KV side in the end is what the gatherer needs.
        for adapter in gathered {
            if queue.waiting.contains(&adapter) && grant(adapter, Turn::Gathering).is_ok() {
                queue.remove(adapter);
                return true;
            }
        }
        false
    }

    /// Whether an adapter waits for room in the tier.
    pub(super) fn is_queued(&self, tier: Tier) -> bool {
        self.queued(tier).next().is_some()
    }

    /// The adapters that wait for room in the tier, in the order in which they came.
    pub(super) fn queued(&self, tier: Tier) -> impl Iterator<Item = EntryId> {
        let queue = match tier {
            Tier::Host => &self.host,
            Tier::Device => &self.device,
        };
        queue.waiting.iter().copied()
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
    /// It waits for what its own tenant gives back, so that nobody keeps it waiting.
    waits_for_share: bool,
}

impl Queue {
    fn remove(&mut self, adapter: EntryId) {
        if self.waiting.front() == Some(&adapter) {
            self.waiting.pop_front();
            self.num_overtakes = 0;
            self.waits_for_share = false;
        } else {
            self.waiting.retain(|other| *other != adapter);
        }
    }

    fn may_be_overtaken(&self) -> bool {
        self.waiting.is_empty() || self.waits_for_share || self.num_overtakes < MAX_OVERTAKES
    }

    fn count_overtake(&mut self, is_overtaken: bool) {
        self.num_overtakes += usize::from(is_overtaken && !self.waits_for_share && !self.waiting.is_empty());
    }
}

#[cfg(test)]
mod tests;
