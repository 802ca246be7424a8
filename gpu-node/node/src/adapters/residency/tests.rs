//! The books of the tiers, moved by hand.

mod cost;
mod shares;

use proptest::prelude::*;
use souk_engine::device_memory::{MemoryConfig, PAGE_BYTES, Side, SideLimits, pages_for};
use souk_protocol::TenantId;

use super::super::samples::ample_memory;
use super::super::waiting::{MAX_OVERTAKES, RequestId};
use super::*;

fn limits(device_bytes: usize, host_bytes: usize) -> AdapterLimits {
    AdapterLimits { device_bytes, host_bytes, ..AdapterLimits::default() }
}

fn digest(index: usize) -> Digest {
    Digest::of(&index.to_le_bytes())
}

fn adapter(index: usize, size_bytes: usize) -> Arc<PackedAdapter> {
    let mut adapter = PackedAdapter::empty(digest(index), 0);
    adapter.size_bytes = size_bytes;
    Arc::new(adapter)
}

/// The index of each digest, up to as many as a test has.
fn index_of(wanted: &Digest) -> usize {
    (0..10_000).find(|index| digest(*index) == *wanted).expect("tests have few adapters")
}

/// A residency with the loads and users that a store would run, moved by hand.
struct Sim {
    residency: Residency,
    now: Instant,
    sizes: Vec<usize>,
    loads: Vec<(EntryId, usize)>,
    users: Vec<User>,
    gatherers: Vec<Gatherer>,
}

struct User {
    request: RequestId,
    /// The adapter that it asks for.
    digest: Digest,
    /// Where that is on the books.
    id: EntryId,
    holder: Holder,
    lease: Option<Arc<DeviceAdapter>>,
}

/// A request for several adapters.
struct Gatherer {
    request: RequestId,
    digests: Vec<Digest>,
    holder: Holder,
    /// Empty until it is granted.
    leases: Vec<Granted>,
}

impl Sim {
    fn new(limits: AdapterLimits, sizes: &[usize]) -> Self {
        Self::in_pool(limits, ample_memory(), sizes)
    }

    fn in_pool(limits: AdapterLimits, memory: DeviceMemory, sizes: &[usize]) -> Self {
        let residency = Residency::new(limits, memory);
        let (sizes, loads, users, gatherers) = (sizes.to_vec(), Vec::new(), Vec::new(), Vec::new());
        Self { residency, now: Instant::now(), sizes, loads, users, gatherers }
    }

    /// A request of one tenant comes, and looks once.
    fn join(&mut self, index: usize) -> Result<EntryId, AdapterError> {
        Ok(self.join_as("tenant", index)?.expect("nobody is kept out in these tests"))
    }

    /// The same of this tenant; `None` if it has to wait before it joins the adapter.
    fn join_as(&mut self, tenant: &str, index: usize) -> Result<Option<EntryId>, AdapterError> {
        let holder = Some(TenantId::from_stored(tenant));
        let (digest, request) = (digest(index), self.residency.ask(1, &holder, self.now));
        let polled = self.residency.poll(request, &[digest], self.now);
        self.begin_loads();
        let granted = match polled {
            Ok(granted) => granted.and_then(|mut granted| granted.pop()),
            Err(error) => {
                self.residency.cancel(request, self.now);
                return Err(error);
            }
        };
        let id = match &granted {
            Some((id, _)) => *id,
            None => self.residency.waiting.adapters(request).first().copied().unwrap_or(EntryId(u64::MAX)),
        };
        self.users.push(User { request, digest, id, holder, lease: granted.map(|(_, adapter)| adapter) });
        Ok((id != EntryId(u64::MAX)).then_some(id))
    }

    fn prefetch(&mut self, index: usize) {
        self.residency.prefetch(&digest(index), self.now);
        self.begin_loads();
    }

    fn begin_loads(&mut self) {
        let News { loads, .. } = self.residency.take_news();
        self.loads.extend(loads.into_iter().map(|(id, digest)| (id, index_of(&digest))));
    }

    /// Lets a load go on as far as it can; `error` makes it fail.
    fn step_load(&mut self, at: usize, error: Option<AdapterError>) {
        let (id, index) = self.loads[at];
        let size = self.sizes[index];
        if error.is_none() && !self.residency.may_load(id) {
            return;
        }
        match self.residency.reserve(id, size, self.now) {
            Ok(false) if error.is_none() => return,
            Ok(true) if error.is_none() => {
                let work_time = Duration::from_millis(10 + index as u64);
                let loaded = Loaded { adapter: adapter(index, size), work_time, was_on_disk: false };
                self.residency.loaded(id, loaded, self.now)
            }
            Ok(_) => self.residency.failed(id, error.unwrap_or(AdapterError::Stopped), self.now),
            Err(refused) => self.residency.failed(id, refused, self.now),
        };
        self.loads.remove(at);
    }

    /// A waiting user looks again; one that is refused goes away.
    fn poll(&mut self, at: usize) {
        if self.users[at].lease.is_some() {
            return;
        }
        let User { request, digest, .. } = self.users[at];
        let polled = self.residency.poll(request, &[digest], self.now);
        // Also of one that is refused as it enters, since it is late: its load goes on.
        self.begin_loads();
        match polled {
            Ok(granted) => {
                if let Some((id, lease)) = granted.and_then(|mut granted| granted.pop()) {
                    (self.users[at].id, self.users[at].lease) = (id, Some(lease));
                }
            }
            Err(_) => self.release(at),
        }
    }

    fn release(&mut self, at: usize) {
        let user = self.users.swap_remove(at);
        match user.lease {
            Some(_) => self.residency.release(user.id, &user.holder, self.now),
            None => self.residency.cancel(user.request, self.now),
        }
    }

    /// A request of this tenant for several adapters comes, and looks once.
    fn gather_as(&mut self, tenant: &str, indices: &[usize]) {
        let holder = Some(TenantId::from_stored(tenant));
        let digests: Vec<Digest> = indices.iter().map(|index| digest(*index)).collect();
        let request = self.residency.ask(digests.len(), &holder, self.now);
        self.gatherers.push(Gatherer { request, digests, holder, leases: Vec::new() });
        self.poll_gatherer(self.gatherers.len() - 1);
    }

    /// A gatherer that waits looks again; one that is refused goes away.
    fn poll_gatherer(&mut self, at: usize) {
        let Gatherer { request, digests, leases, .. } = &mut self.gatherers[at];
        if !leases.is_empty() {
            return;
        }
        let polled = self.residency.poll(*request, digests, self.now);
        match polled {
            Ok(granted) => *leases = granted.unwrap_or_default(),
            Err(_) => self.release_gatherer(at),
        }
        self.begin_loads();
    }

    fn release_gatherer(&mut self, at: usize) {
        let Gatherer { request, holder, leases, .. } = self.gatherers.swap_remove(at);
        self.residency.cancel(request, self.now);
        leases.iter().for_each(|(id, _)| self.residency.release(*id, &holder, self.now));
    }

    /// Joins, loads and leases in one go, and gives the lease back.
    fn use_once(&mut self, index: usize) {
        self.join(index).unwrap();
        while let Some(at) = self.loads.len().checked_sub(1) {
            self.step_load(at, None);
        }
        let at = self.users.len() - 1;
        self.poll(at);
        assert!(self.users[at].lease.is_some());
        self.release(at);
        self.check();
    }

    fn resident(&self) -> Vec<(usize, Tier)> {
        let stats = self.residency.stats(self.now);
        let tier = |index| stats.resident.iter().find(|adapter| adapter.digest == digest(index)).map(|a| a.tier);
        (0..self.sizes.len()).filter_map(|index| tier(index).map(|tier| (index, tier))).collect()
    }

    /// What must hold at every moment.
    fn check(&self) {
        let Room { entries, totals, limits, memory, .. } = &self.residency.room;
        let on_device = |entry: &&AdapterEntry| matches!(entry.state, State::Device(_));
        assert_eq!(totals.host_bytes, entries.values().map(|entry| entry.bytes).sum::<usize>());
        assert_eq!(totals.device_bytes, entries.values().filter(on_device).map(|entry| entry.bytes).sum::<usize>());
        assert!(totals.host_bytes <= limits.host_bytes, "{} > {}", totals.host_bytes, limits.host_bytes);
        assert!(totals.device_bytes <= limits.device_bytes);
        let pages: usize = entries.values().filter(on_device).map(|entry| pages_for(entry.bytes)).sum();
        assert_eq!(memory.used(Side::Adapters), pages, "the pool and the books agree");
        for (counted, tier) in self.residency.counted.iter().zip([Tier::Host, Tier::Device]) {
            let is_valid = |at: u64| at == self.residency.room.num_changes;
            let counted = counted.as_ref().filter(|(at, _)| is_valid(*at));
            let is_so = counted.is_none_or(|(_, counted)| **counted == self.residency.room.in_use(tier));
            assert!(is_so, "what was counted is not so any more");
        }
        let leases = self.users.iter().filter_map(|user| user.lease.as_ref().map(|lease| (&user.id, lease)));
        let gathered = self.gatherers.iter().flat_map(|gatherer| &gatherer.leases).map(|(id, lease)| (id, lease));
        for (id, lease) in leases.chain(gathered) {
            let State::Device(resident) = &entries[id].state else { panic!("a leased adapter was evicted") };
            assert!(Arc::ptr_eq(lease, &resident.on_device));
        }
    }

    /// Every load ends and every lease is given back: then every user must be served or refused.
    fn drain(&mut self) {
        for _ in 0..10 * (self.users.len() + self.gatherers.len() + self.loads.len() + 1) {
            for at in (0..self.loads.len()).rev() {
                self.step_load(at, None);
            }
            for at in (0..self.users.len()).rev() {
                self.poll(at);
            }
            (0..self.gatherers.len()).rev().for_each(|at| self.poll_gatherer(at));
            self.check();
            let is_leased = |at: &usize| !self.gatherers[*at].leases.is_empty();
            for at in (0..self.gatherers.len()).rev().filter(is_leased).collect::<Vec<_>>() {
                self.release_gatherer(at);
            }
            for at in (0..self.users.len()).rev().filter(|at| self.users[*at].lease.is_some()).collect::<Vec<_>>() {
                self.release(at);
            }
        }
        let is_done = self.users.is_empty() && self.gatherers.is_empty() && self.loads.is_empty();
        assert!(is_done, "somebody waits for ever");
        assert!(self.residency.waiting.is_empty(), "something is left: {:?}", self.residency.waiting);
    }
}

#[derive(Clone, Debug)]
enum Action {
    Join(u8, usize),
    Gather(u8, Vec<usize>),
    PollGatherer(usize),
    ReleaseGatherer(usize),
    StepLoad(usize),
    FailLoad(usize),
    Poll(usize),
    Release(usize),
    TakeDown(usize),
    Prefetch(usize),
    /// The KV side takes or gives back pages; it asks for what it does not get.
    TakePages(usize),
    GiveBackPages(usize),
    Sleep(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        4 => (0u8..3, 0usize..6).prop_map(|(tenant, index)| Action::Join(tenant, index)),
        1 => (0u8..3, prop::collection::vec(0usize..6, 2..4)).prop_map(|(tenant, all)| Action::Gather(tenant, all)),
        2 => any::<usize>().prop_map(Action::PollGatherer),
        1 => any::<usize>().prop_map(Action::ReleaseGatherer),
        5 => any::<usize>().prop_map(Action::StepLoad),
        1 => any::<usize>().prop_map(Action::FailLoad),
        5 => any::<usize>().prop_map(Action::Poll),
        4 => any::<usize>().prop_map(Action::Release),
        1 => (0usize..6).prop_map(Action::TakeDown),
        2 => (0usize..6).prop_map(Action::Prefetch),
        2 => (0usize..20).prop_map(Action::TakePages),
        2 => (0usize..20).prop_map(Action::GiveBackPages),
        1 => (0u64..100_000).prop_map(Action::Sleep),
    ];
    prop::collection::vec(action, 0..120)
}

proptest! {
    #[test]
    fn budgets_hold_leases_last_and_nobody_waits_for_ever(
        device in 60usize..160, extra in 0usize..120, pool in prop::option::of((8usize..20, 0usize..12)),
        actions in actions()
    ) {
        // The last size fits into no device of less than 140 pages.
        let sizes = [5, 20, 30, 45, 60, 140].map(|pages| pages * PAGE_BYTES - 7);
        let memory = pool.map(|(kv_floor, shared)| {
            let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
            let total_bytes = (kv_floor + shared + 60) * PAGE_BYTES;
            DeviceMemory::new(MemoryConfig { total_bytes, kv: floor(kv_floor), adapters: floor(60) }).unwrap()
        });
        let mut kv_pages = 0;
        let limits = limits(device * PAGE_BYTES, (device + extra) * PAGE_BYTES);
        let mut sim = Sim::in_pool(limits, memory.clone().unwrap_or_else(ample_memory), &sizes);
        for action in actions {
            match action {
                Action::Join(tenant, index) => drop(sim.join_as(&tenant.to_string(), index)),
                Action::Gather(tenant, indices) => sim.gather_as(&tenant.to_string(), &indices),
                Action::PollGatherer(at) if !sim.gatherers.is_empty() => sim.poll_gatherer(at % sim.gatherers.len()),
                Action::ReleaseGatherer(at) if !sim.gatherers.is_empty() => {
                    sim.release_gatherer(at % sim.gatherers.len());
                }
                Action::StepLoad(at) if !sim.loads.is_empty() => sim.step_load(at % sim.loads.len(), None),
                Action::FailLoad(at) if !sim.loads.is_empty() => {
                    sim.step_load(at % sim.loads.len(), Some(AdapterError::Stopped));
                }
                Action::Poll(at) if !sim.users.is_empty() => sim.poll(at % sim.users.len()),
                Action::Release(at) if !sim.users.is_empty() => sim.release(at % sim.users.len()),
                Action::TakeDown(index) => {
                    sim.residency.take_down(&digest(index), sim.now);
                    // As if the order stood no more, so that what follows is about more than refusals.
                    sim.residency.taken_down = TakenDown::default();
                }
                Action::Prefetch(index) => sim.prefetch(index),
                Action::TakePages(pages) => if let Some(memory) = &memory {
                    if memory.take(Side::Kv, pages) {
                        kv_pages += pages;
                    } else if kv_pages + pages <= memory.most(Side::Kv) {
                        memory.ask(Side::Kv, pages);
                        sim.residency.look_again(sim.now);
                    }
                }
                Action::GiveBackPages(pages) => if let Some(memory) = &memory {
                    let pages = pages.min(kv_pages);
                    memory.give_back(Side::Kv, pages);
                    kv_pages -= pages;
                    sim.residency.look_again(sim.now);
                }
                Action::Sleep(ms) => sim.now += Duration::from_millis(ms),
                _ => {}
            }
            sim.check();
        }
        // The KV side's own work ends too, and with it its wishes.
        if let Some(memory) = &memory {
            memory.give_back(Side::Kv, kv_pages);
            memory.ask(Side::Kv, 0);
            sim.residency.look_again(sim.now);
        }
        sim.drain();
        drop(sim);
        prop_assert!(memory.is_none_or(|memory| memory.used(Side::Adapters) == 0));
    }

    #[test]
    fn what_the_kv_side_is_short_of_comes_from_idle_adapters_alone(
        idle in 0usize..8, leased in 0usize..8, wanted in 1usize..57,
    ) {
        let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
        let config = MemoryConfig { total_bytes: 60 * PAGE_BYTES, kv: floor(4), adapters: floor(6) };
        let memory = DeviceMemory::new(config).unwrap();
        let bytes = 60 * PAGE_BYTES;
        let sizes = [4 * PAGE_BYTES; 16];
        let mut sim = Sim::in_pool(limits(bytes, bytes), memory.clone(), &sizes);
        for index in 0..leased {
            sim.join(index).unwrap();
            sim.step_load(0, None);
            sim.poll(index);
        }
        for index in 0..idle {
            sim.use_once(8 + index);
        }
        let used = memory.used(Side::Adapters);
        memory.ask(Side::Kv, wanted);
        sim.residency.look_again(sim.now);
        sim.check();
        // Three pages are the reserve, beside what is in use.
        let can_be_had = wanted <= 60 - (4 * leased + 3).max(6);
        prop_assert_eq!(memory.take(Side::Kv, wanted), can_be_had);
        let given = (used - memory.used(Side::Adapters)) / 4;
        let missing = wanted.saturating_sub(60 - used);
        prop_assert!(given <= missing.div_ceil(4), "no more went than was missing");
    }
}

#[test]
fn the_least_popular_goes_first_and_popularity_fades() {
    let mut sim = Sim::new(limits(30, 30), &[10, 10, 10, 10]);
    for index in [0, 0, 0, 1, 2] {
        sim.use_once(index);
        sim.now += Duration::from_secs(1);
    }
    sim.use_once(3);
    assert_eq!(sim.resident(), [(0, Tier::Device), (2, Tier::Device), (3, Tier::Device)]);
    // Two hours later what was popular then is worth less than what is used now.
    sim.now += Duration::from_secs(7200);
    sim.use_once(2);
    sim.use_once(3);
    sim.use_once(1);
    assert_eq!(sim.resident(), [(1, Tier::Device), (2, Tier::Device), (3, Tier::Device)]);
}

#[test]
fn of_two_equally_popular_the_one_that_is_cheap_to_reload_for_its_size_goes() {
    let mut sim = Sim::new(limits(40, 40), &[10, 30, 20]);
    // Loads take about as long, so the large one costs less per byte.
    sim.use_once(0);
    sim.use_once(1);
    sim.use_once(2);
    assert_eq!(sim.resident(), [(0, Tier::Device), (2, Tier::Device)]);
}

#[test]
fn an_adapter_that_leaves_the_device_stays_in_host_memory_and_comes_back_without_a_load() {
    let mut sim = Sim::new(limits(10, 30), &[10, 10]);
    sim.use_once(0);
    sim.use_once(1);
    assert_eq!(sim.resident(), [(0, Tier::Host), (1, Tier::Device)]);
    sim.use_once(0);
    let totals = sim.residency.totals();
    assert_eq!((totals.loads, totals.misses, totals.host_hits, totals.device_evictions), (2, 2, 1, 2));
    assert_eq!((totals.host_bytes, totals.host_evictions), (20, 0));
}

#[test]
fn a_large_adapter_that_waits_is_not_overtaken_by_small_ones() {
    let mut sim = Sim::new(limits(30, 90), &[30, 10, 10, 10]);
    let large = sim.join(0).unwrap();
    sim.step_load(0, None);
    sim.release(0);
    for index in [1, 2] {
        sim.join(index).unwrap();
        sim.step_load(0, None);
        let at = sim.users.len() - 1;
        sim.poll(at);
    }
    // The large one waits behind two leases; a third small one would fit beside them and must not go first.
    assert_eq!(sim.join(0).unwrap(), large);
    sim.poll(2);
    sim.join(3).unwrap();
    sim.step_load(0, None);
    sim.poll(3);
    assert!(sim.users[2].lease.is_none() && sim.users[3].lease.is_none());
    let waiting = sim.residency.why_waiting(&[large], Duration::from_millis(7));
    assert_eq!(
        waiting.to_string(),
        "no room for the adapter within 7 ms: it takes 30 bytes, and of the 30 bytes of the device tier 20 are in use"
    );
    sim.release(1);
    sim.release(0);
    sim.check();
    let at = sim.users.iter().position(|user| user.id == large).unwrap();
    sim.poll(at);
    assert!(sim.users[at].lease.is_some());
    sim.drain();
}

#[test]
fn nothing_is_evicted_in_vain() {
    let mut sim = Sim::new(limits(30, 30), &[10, 10, 30]);
    sim.use_once(0);
    sim.join(1).unwrap();
    sim.step_load(0, None);
    sim.poll(0);
    sim.join(2).unwrap();
    sim.step_load(0, None);
    assert_eq!(sim.resident(), [(0, Tier::Device), (1, Tier::Device)]);
    let reason = sim.residency.why_waiting(&[sim.users[1].id], Duration::ZERO);
    assert!(matches!(reason, AdapterError::NoRoom { tier: Tier::Host, in_use_bytes: 10, needed_bytes: 30, .. }));
    sim.drain();
}

#[test]
fn an_adapter_that_can_never_fit_is_refused_at_once() {
    let mut sim = Sim::new(limits(30, 60), &[40]);
    let id = sim.join(0).unwrap();
    let refused = sim.residency.reserve(id, 40, sim.now).unwrap_err();
    assert!(matches!(refused, AdapterError::TooLarge { needed_bytes: 40, tier: Tier::Device, budget_bytes: 30 }));
    sim.drain();
}

#[test]
fn a_take_down_refuses_those_that_wait_and_spares_those_that_run() {
    let mut sim = Sim::new(limits(30, 60), &[20, 20]);
    sim.join(0).unwrap();
    sim.step_load(0, None);
    sim.poll(0);
    let leased = sim.users[0].id;
    assert!(sim.residency.take_down(&digest(0), sim.now));
    assert!(!sim.residency.take_down(&digest(0), sim.now));
    sim.check();
    assert_eq!(sim.residency.totals().device_bytes, 20, "its bytes count while it runs");
    // A later request is refused, and nothing is brought ahead of one.
    assert!(matches!(sim.join(0), Err(AdapterError::TakenDown)));
    sim.prefetch(0);
    assert!(sim.loads.is_empty());
    // So are those that wait, and their load.
    assert_ne!(sim.join(1).unwrap(), leased);
    let User { id, request, .. } = sim.users[1];
    assert!(sim.residency.take_down(&digest(1), sim.now));
    let polled = sim.residency.poll(request, &[digest(1)], sim.now);
    assert!(matches!(polled, Err(AdapterError::TakenDown)));
    assert!(matches!(sim.residency.reserve(id, 20, sim.now), Err(AdapterError::TakenDown)));
    sim.drain();
    assert_eq!(sim.residency.totals().host_bytes, 0);
    assert!(sim.residency.room.entries.is_empty());
}

#[test]
fn a_failed_load_ends_its_waiters_and_is_tried_again_after_the_pause() {
    let mut sim = Sim::new(limits(30, 60), &[20]);
    sim.join(0).unwrap();
    sim.join(0).unwrap();
    sim.step_load(0, Some(AdapterError::Stopped));
    for _ in 0..2 {
        let polled = sim.residency.poll(sim.users[0].request, &[digest(0)], sim.now);
        assert!(matches!(polled, Err(AdapterError::Stopped)));
        sim.release(0);
    }
    assert!(matches!(sim.join(0), Err(AdapterError::BackingOff { .. })));
    sim.now += AdapterLimits::default().first_retry_pause;
    sim.use_once(0);
}

#[test]
fn an_adapter_that_disk_gives_back_quickly_goes_before_one_that_must_be_fetched_again() {
    let mut sim = Sim::new(limits(30, 30), &[10, 10, 10, 10]);
    let load = |sim: &mut Sim, index: usize, work_ms: u64, was_on_disk: bool| {
        let id = sim.join(index).unwrap();
        assert!(sim.residency.reserve(id, 10, sim.now).unwrap());
        let work_time = Duration::from_millis(work_ms);
        sim.residency.loaded(id, Loaded { adapter: adapter(index, 10), work_time, was_on_disk }, sim.now);
        sim.loads.clear();
        sim.release(0);
    };
    // Equally large and equally often asked for: what it takes to have them back decides.
    load(&mut sim, 0, 40, false);
    load(&mut sim, 1, 2, true);
    load(&mut sim, 2, 30, false);
    load(&mut sim, 3, 20, false);
    assert_eq!(sim.resident().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2, 3]);
    // Once the dearest is on disk it is as cheap as others from there, and the next to go.
    sim.residency.kept_on_disk(&digest(0));
    load(&mut sim, 1, 2, true);
    assert_eq!(sim.resident().iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_prefetch_takes_free_room_and_that_of_forgotten_adapters_only() {
    let mut sim = Sim::new(limits(20, 20), &[10, 10, 10, 10]);
    sim.use_once(0);
    sim.use_once(1);
    let prefetch = |sim: &mut Sim, index: usize| {
        sim.prefetch(index);
        if let Some(at) = sim.loads.len().checked_sub(1) {
            sim.step_load(at, None);
        }
        sim.check();
    };
    prefetch(&mut sim, 2);
    assert_eq!(sim.resident(), [(0, Tier::Device), (1, Tier::Device)], "both were used a moment ago");
    assert_eq!(sim.residency.totals().load_failures, 0, "no room for a prefetch is no failure");
    sim.now += AdapterLimits::default().popularity_half_life * 2;
    sim.use_once(1);
    prefetch(&mut sim, 2);
    assert_eq!(sim.resident(), [(1, Tier::Device), (2, Tier::Device)]);
    // Its request finds it there.
    sim.use_once(2);
    let totals = sim.residency.totals();
    assert_eq!((totals.prefetches, totals.prefetch_hits, totals.device_hits), (2, 1, 2));
    assert_eq!(totals.misses, 2);
}

#[test]
fn what_nobody_has_used_for_long_leaves_memory_and_what_is_in_use_stays() {
    let idle = Duration::from_secs(600);
    let mut sim = Sim::new(limits(60, 60), &[10, 10, 10]);
    sim.use_once(0);
    sim.now += idle / 2;
    sim.use_once(1);
    sim.join(2).unwrap();
    sim.step_load(0, None);
    sim.poll(0);
    assert_eq!(sim.residency.let_idle_go(idle, sim.now), 0);
    sim.now += idle / 2;
    assert_eq!(sim.residency.let_idle_go(idle, sim.now), 1);
    assert_eq!(sim.resident(), [(1, Tier::Device), (2, Tier::Device)]);
    sim.now += idle * 2;
    assert_eq!(sim.residency.let_idle_go(idle, sim.now), 1);
    sim.check();
    assert_eq!(sim.resident(), [(2, Tier::Device)], "a request runs with it");
    let totals = sim.residency.totals();
    assert_eq!((totals.left_idle, totals.host_evictions, totals.host_bytes, totals.device_bytes), (2, 0, 10, 10));
    // It comes again when it is asked for.
    sim.use_once(0);
    sim.release(0);
    sim.now += idle;
    assert_eq!(sim.residency.let_idle_go(idle, sim.now), 2);
    sim.drain();
    assert_eq!(sim.residency.totals().host_bytes, 0);
}

#[test]
fn a_request_that_joins_a_prefetch_waits_for_room_like_any_other() {
    let mut sim = Sim::new(limits(10, 10), &[10, 10]);
    sim.join(0).unwrap();
    sim.step_load(0, None);
    sim.poll(0);
    sim.prefetch(1);
    sim.prefetch(1);
    assert_eq!(sim.loads.len(), 1, "one load is enough");
    assert_eq!(sim.join(1).unwrap(), sim.loads[0].0);
    sim.step_load(0, None);
    assert_eq!(sim.loads.len(), 1, "it waits, since the lease on the other lasts");
    sim.release(0);
    sim.step_load(0, None);
    sim.poll(0);
    assert!(sim.users[0].lease.is_some());
    sim.release(0);
    assert_eq!(sim.residency.totals().prefetch_hits, 1);
    assert!(sim.residency.waiting.is_empty());
}

#[test]
fn when_idle_adapters_are_not_enough_the_kv_side_is_asked_for_the_rest() {
    let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
    let config = MemoryConfig { total_bytes: 20 * PAGE_BYTES, kv: floor(2), adapters: floor(0) };
    let memory = DeviceMemory::new(config).unwrap();
    let bytes = 20 * PAGE_BYTES;
    let mut sim = Sim::in_pool(limits(bytes, bytes), memory.clone(), &[4 * PAGE_BYTES, 10 * PAGE_BYTES]);
    sim.use_once(0);
    assert!(memory.take(Side::Kv, 14));
    sim.join(1).unwrap();
    sim.step_load(0, None);
    sim.poll(0);
    // Two pages are free, four are the idle adapter's: four are missing.
    assert_eq!((memory.wanted(Side::Adapters), memory.owes(Side::Kv)), (6, 4));
    assert_eq!(sim.resident(), [(0, Tier::Device), (1, Tier::Host)], "nothing is evicted in vain");
    let reason = sim.residency.why_waiting(&[sim.users[0].id], Duration::from_millis(3)).to_string();
    assert!(
        reason.contains("it takes 40960 bytes, and of the 24576 bytes of the device tier 0 are in use"),
        "{reason}"
    );
    memory.give_back(Side::Kv, 4);
    assert!(!memory.take(Side::Kv, 1), "the pages are kept for the one who asked");
    sim.residency.look_again(sim.now);
    sim.poll(0);
    assert!(sim.users[0].lease.is_some());
    assert_eq!(memory.wanted(Side::Adapters), 0);
    // A wish of one that goes away is withdrawn.
    sim.join(0).unwrap();
    sim.poll(1);
    assert_eq!(memory.wanted(Side::Adapters), 4);
    sim.release(1);
    assert_eq!(memory.wanted(Side::Adapters), 0);
    sim.drain();
}
