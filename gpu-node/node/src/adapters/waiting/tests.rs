//! Who waits behind whom, over tiers in which nothing is clever: adapters of so many bytes, and whatever is idle goes.

use proptest::prelude::*;

use souk_protocol::TenantId;

use super::*;

/// Where an adapter of the model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Absent,
    /// Its load waits for a slot, or works.
    Loading,
    WaitsForMemory,
    /// Its load has its memory, and works.
    Reserved,
    Host,
    Device,
}

#[derive(Debug)]
struct Adapter {
    bytes: usize,
    place: Place,
    users: usize,
    holds: usize,
    /// The tenants of those that use it, one for each.
    tenants: Vec<Holder>,
}

impl Adapter {
    fn is_in_memory(&self) -> bool {
        matches!(self.place, Place::Host | Place::Device)
    }

    fn host_bytes(&self) -> usize {
        if self.is_in_memory() || self.place == Place::Reserved { self.bytes } else { 0 }
    }

    fn device_bytes(&self) -> usize {
        if self.place == Place::Device { self.bytes } else { 0 }
    }
}

/// What a waiter has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Polled {
    Wait,
    Granted,
    Refused,
}

struct Model {
    waiting: Waiting,
    now: Instant,
    host_bytes: usize,
    device_bytes: usize,
    adapters: Vec<Adapter>,
    waiters: Vec<(RequestId, Vec<usize>)>,
    leases: Vec<(RequestId, Vec<usize>)>,
    tenants: HashMap<RequestId, Holder>,
    /// How many entered past the first of a queue, by who was the first.
    overtaken: HashMap<(bool, EntryId), usize>,
    num_overtakes: usize,
}

impl Model {
    fn new(device_bytes: usize, host_bytes: usize, sizes: &[usize]) -> Self {
        let adapter =
            |bytes: &usize| Adapter { bytes: *bytes, place: Place::Absent, users: 0, holds: 0, tenants: Vec::new() };
        Self {
            waiting: Waiting::new(&AdapterLimits::default()),
            now: Instant::now(),
            host_bytes,
            device_bytes,
            adapters: sizes.iter().map(adapter).collect(),
            waiters: Vec::new(),
            leases: Vec::new(),
            tenants: HashMap::new(),
            overtaken: HashMap::new(),
            num_overtakes: 0,
        }
    }

    fn ask(&mut self, adapters: &[usize]) -> RequestId {
        self.ask_for(0, adapters)
    }

    fn ask_for(&mut self, number: usize, adapters: &[usize]) -> RequestId {
        let id = self.waiting.ask(adapters.len(), &tenant(number), self.now);
        self.waiters.push((id, adapters.to_vec()));
        self.tenants.insert(id, tenant(number));
        id
    }

    /// A request looks again.
    fn poll(&mut self, id: RequestId) -> Polled {
        let Some(at) = self.waiters.iter().position(|(waiter, _)| *waiter == id) else { return Polled::Granted };
        let wanted = self.waiters[at].1.clone();
        let distinct: std::collections::BTreeSet<_> = wanted.iter().copied().collect();
        if distinct.iter().map(|index| self.adapters[*index].bytes).sum::<usize>() > self.device_bytes {
            self.cancel(id);
            return Polled::Refused;
        }
        if self.waiting.adapters(id).is_empty() && self.enter(id, &wanted) {
            self.join(id, &wanted);
        }
        if !self.waiting.adapters(id).is_empty() {
            let adapters = &self.adapters;
            if self.waiting.may_hold(id, |id| adapters[id.0 as usize].is_in_memory()) {
                self.waiting.hold(id);
                for index in &wanted {
                    self.adapters[*index].holds += 1;
                    self.waiting.queue(Tier::Device, EntryId(*index as u64));
                }
                self.admit();
            }
            if wanted.iter().all(|index| self.adapters[*index].place == Place::Device) {
                let left = self.waiting.leave(id).unwrap();
                assert!(left.held && left.adapters.len() == wanted.len());
                self.waiters.remove(at);
                self.leases.push((id, wanted));
                return Polled::Granted;
            }
        }
        if self.waiting.is_late(id, self.now) {
            self.cancel(id);
            return Polled::Refused;
        }
        Polled::Wait
    }

    fn enter(&mut self, id: RequestId, wanted: &[usize]) -> bool {
        let of = |test: fn(&Adapter) -> bool| wanted.iter().any(|index| test(&self.adapters[*index]));
        let host = of(Adapter::is_in_memory);
        let device = of(|adapter| adapter.place == Place::Device);
        let firsts = [&self.waiting.host, &self.waiting.device].map(|queue| queue.waiting.front().copied());
        if !self.waiting.enter(id, Overtakes { host, device }) {
            return false;
        }
        let mut overtakes = false;
        for (is_device, (first, passes)) in firsts.into_iter().zip([host, device]).enumerate() {
            if let Some(first) = first
                && (passes || wanted.len() > 1)
            {
                let count = self.overtaken.entry((is_device == 1, first)).or_default();
                *count += 1;
                assert!(*count <= MAX_OVERTAKES, "{first:?} was overtaken too often");
                overtakes = true;
            }
        }
        self.num_overtakes += usize::from(overtakes);
        true
    }

    fn join(&mut self, id: RequestId, wanted: &[usize]) {
        for index in wanted {
            let (entry, holds) = (EntryId(*index as u64), self.waiting.holds(id));
            let adapter = &mut self.adapters[*index];
            adapter.users += 1;
            adapter.holds += usize::from(holds);
            adapter.tenants.push(self.tenants[&id].clone());
            match adapter.place {
                Place::Absent => {
                    adapter.place = Place::Loading;
                    self.waiting.begin_load(entry, Purpose::Request, &self.tenants[&id]);
                }
                Place::WaitsForMemory => self.waiting.queue(Tier::Host, entry),
                Place::Host if holds => self.waiting.queue(Tier::Device, entry),
                _ => {}
            }
            self.waiting.join(id, entry);
        }
        self.admit();
    }

    /// A load goes on as far as it can now.
    fn step_load(&mut self, index: usize) {
        let entry = EntryId(index as u64);
        if self.adapters[index].place == Place::Loading && self.waiting.may_load(entry) {
            self.adapters[index].place = Place::WaitsForMemory;
            self.waiting.queue(Tier::Host, entry);
            self.admit();
        }
        if self.adapters[index].place == Place::WaitsForMemory && self.adapters[index].users == 0 {
            self.waiting.withdraw(Tier::Host, entry);
            self.adapters[index].place = Place::Absent;
            self.waiting.end_load(entry);
        }
        if self.adapters[index].place == Place::Reserved {
            self.adapters[index].place = Place::Host;
            self.waiting.end_load(entry);
            if self.adapters[index].holds > 0 {
                self.waiting.queue(Tier::Device, entry);
            }
            self.admit();
        }
    }

    fn cancel(&mut self, id: RequestId) {
        self.waiters.retain(|(waiter, _)| *waiter != id);
        let left = self.waiting.leave(id).expect("it waited");
        for entry in left.adapters {
            self.remove_user(entry, &left.holder, left.held);
        }
    }

    /// A request that was granted ends.
    fn end(&mut self, id: RequestId) {
        let at = self.leases.iter().position(|(lease, _)| *lease == id).expect("it was granted");
        let (_, adapters) = self.leases.remove(at);
        let tenant = self.tenants[&id].clone();
        adapters.into_iter().for_each(|index| self.remove_user(EntryId(index as u64), &tenant, true));
    }

    fn remove_user(&mut self, entry: EntryId, tenant: &Holder, held: bool) {
        let adapter = &mut self.adapters[entry.0 as usize];
        let at = adapter.tenants.iter().position(|other| other == tenant).expect("it uses it");
        adapter.tenants.remove(at);
        adapter.users -= 1;
        adapter.holds -= usize::from(held);
        let (users, holds) = (adapter.users, adapter.holds);
        if holds == 0 {
            self.waiting.withdraw(Tier::Device, entry);
        }
        if users == 0 {
            self.waiting.withdraw(Tier::Host, entry);
        }
        self.admit();
    }

    fn admit(&mut self) {
        let Self { waiting, adapters, host_bytes, device_bytes, .. } = self;
        let in_turn = |adapters: &[Adapter]| -> HashMap<EntryId, u64> {
            let place = |index: usize| (EntryId(index as u64), least_held(adapters, &adapters[index]));
            (0..adapters.len()).map(place).collect()
        };
        while let held = in_turn(adapters)
            && waiting.admit(Tier::Device, &held, |id, turn| {
                let index = id.0 as usize;
                if adapters[index].place != Place::Host {
                    return Ok(());
                }
                if turn == Turn::Passing {
                    return Err(Cause::Full);
                }
                let idle = |adapter: &Adapter| adapter.place == Place::Device && adapter.holds == 0;
                let has_room = fits(adapters, *device_bytes, adapters[index].bytes, Adapter::device_bytes, idle);
                if has_room {
                    make_room(adapters, *device_bytes, index, Adapter::device_bytes, idle, Place::Host);
                    adapters[index].place = Place::Device;
                }
                if has_room { Ok(()) } else { Err(Cause::Full) }
            })
        {}
        while let held = in_turn(adapters)
            && waiting.admit(Tier::Host, &held, |id, turn| {
                let index = id.0 as usize;
                if adapters[index].place != Place::WaitsForMemory {
                    return Ok(());
                }
                if turn == Turn::Passing {
                    return Err(Cause::Full);
                }
                let idle = |adapter: &Adapter| adapter.is_in_memory() && adapter.users == 0;
                let has_room = fits(adapters, *host_bytes, adapters[index].bytes, Adapter::host_bytes, idle);
                if has_room {
                    make_room(adapters, *host_bytes, index, Adapter::host_bytes, idle, Place::Absent);
                    adapters[index].place = Place::Reserved;
                }
                if has_room { Ok(()) } else { Err(Cause::Full) }
            })
        {}
    }

    /// Loads go on as far as they can, and those that wait look again, until nothing changes.
    fn settle(&mut self) {
        loop {
            let before: Vec<_> = self.adapters.iter().map(|adapter| adapter.place).collect();
            let num_waiters = self.waiters.len();
            (0..self.adapters.len()).for_each(|index| self.step_load(index));
            let ids: Vec<_> = self.waiters.iter().map(|(id, _)| *id).collect();
            for id in ids {
                self.poll(id);
            }
            self.check();
            let after: Vec<_> = self.adapters.iter().map(|adapter| adapter.place).collect();
            if before == after && num_waiters == self.waiters.len() {
                return;
            }
        }
    }

    fn has_lease(&self, id: RequestId) -> bool {
        self.leases.iter().any(|(lease, _)| *lease == id)
    }

    /// The oldest lease on an adapter ends.
    fn end_one_of(&mut self, index: usize) {
        let (id, _) = self.leases.iter().find(|(_, adapters)| adapters == &[index]).expect("it is leased");
        self.end(*id);
    }

    /// What must hold at every moment.
    fn check(&self) {
        assert!(self.adapters.iter().map(Adapter::host_bytes).sum::<usize>() <= self.host_bytes);
        assert!(self.adapters.iter().map(Adapter::device_bytes).sum::<usize>() <= self.device_bytes);
        let limits = AdapterLimits::default();
        let slots = limits.max_concurrent_loads + limits.max_prefetches + 1;
        let orphans = |id: &&EntryId| self.adapters[id.0 as usize].users == 0;
        assert!(self.waiting.loads.len() - self.waiting.loads.keys().filter(orphans).count() <= slots);
        for (_, adapters) in &self.leases {
            assert!(adapters.iter().all(|index| self.adapters[*index].place == Place::Device), "a lease was evicted");
        }
    }

    /// Every load and every lease ends, and no time passes: every waiter is served or refused for what it asks.
    fn drain(&mut self) {
        for _ in 0..2 * self.waiters.len() + 2 {
            self.settle();
            while let Some((id, _)) = self.leases.first() {
                self.end(*id);
            }
        }
        self.settle();
        assert!(self.waiters.is_empty(), "a deadlock: {:?} of {:?}", self.waiting, self.adapters);
        assert!(self.waiting.is_empty(), "something is left: {:?}", self.waiting);
    }
}

fn tenant(number: usize) -> Holder {
    Some(TenantId::from_stored(number.to_string()))
}

/// What the one has in use that has least of those who use this one.
fn least_held(adapters: &[Adapter], adapter: &Adapter) -> u64 {
    let held = |tenant: &Holder| {
        let of_tenant = adapters.iter().filter(|other| other.place == Place::Device && other.tenants.contains(tenant));
        of_tenant.map(|other| other.bytes as u64).sum()
    };
    adapter.tenants.iter().map(held).min().unwrap_or_default()
}

/// Whether `bytes` fit beside what is not idle.
fn fits(
    adapters: &[Adapter],
    budget: usize,
    bytes: usize,
    size: fn(&Adapter) -> usize,
    idle: fn(&Adapter) -> bool,
) -> bool {
    adapters.iter().filter(|adapter| !idle(adapter)).map(size).sum::<usize>() + bytes <= budget
}

/// Sends idle adapters to `place` until the one at `index` fits.
fn make_room(
    adapters: &mut [Adapter],
    budget: usize,
    index: usize,
    size: fn(&Adapter) -> usize,
    idle: fn(&Adapter) -> bool,
    place: Place,
) {
    while adapters.iter().map(size).sum::<usize>() + adapters[index].bytes > budget {
        adapters.iter_mut().find(|adapter| idle(adapter)).expect("it was found to fit").place = place;
    }
}

#[test]
fn adapters_that_are_never_idle_do_not_starve_one_that_needs_their_room() {
    // In the first case it waits for the device, in the second its load waits for host memory.
    for host_bytes in [60, 20] {
        let mut model = Model::new(20, host_bytes, &[10, 10, 15]);
        for index in [0, 1] {
            model.ask(&[index]);
        }
        model.settle();
        let cold = model.ask(&[2]);
        model.settle();
        // The next request for a hot adapter always comes before the last one ends.
        let at_the_bound = loop {
            let hot = model.num_overtakes % 2;
            let request = model.ask(&[hot]);
            if model.poll(request) == Polled::Wait {
                break request;
            }
            model.end_one_of(hot);
            model.settle();
            assert!(!model.has_lease(cold), "there was no room at any moment");
        };
        assert_eq!(model.num_overtakes, MAX_OVERTAKES);
        // It waits with nothing in hand, and so do others like it, in their order; not those that overtake nobody.
        assert!(model.waiting.adapters(at_the_bound).is_empty());
        let next = model.ask(&[1]);
        assert_eq!(model.poll(next), Polled::Wait);
        assert_eq!(model.waiting.overtakers, [at_the_bound, next]);
        for index in [0, 1] {
            model.end_one_of(index);
        }
        model.settle();
        assert!(model.has_lease(cold), "it needed nothing but that those end who held a lease");
        let another = model.ask(&[2]);
        assert_eq!(model.poll(another), Polled::Granted, "others may overtake again");
        model.drain();
    }
}

/// A request that is made in some round for one of the hot adapters, and runs for some rounds.
fn requests() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((any::<usize>(), 1usize..6), 60..200)
}

#[derive(Clone, Debug)]
enum Action {
    /// A tenant asks.
    Ask(usize, Vec<usize>),
    Settle,
    StepLoad(usize),
    Poll(usize),
    Cancel(usize),
    End(usize),
    Sleep(u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        5 => (0usize..3, 0usize..6).prop_map(|(tenant, index)| Action::Ask(tenant, vec![index])),
        3 => (0usize..3, prop::collection::vec(0usize..6, 2..4)).prop_map(|(tenant, all)| Action::Ask(tenant, all)),
        2 => Just(Action::Settle),
        4 => (0usize..6).prop_map(Action::StepLoad),
        4 => any::<usize>().prop_map(Action::Poll),
        2 => any::<usize>().prop_map(Action::Cancel),
        3 => any::<usize>().prop_map(Action::End),
        1 => (0u64..20_000).prop_map(Action::Sleep),
    ];
    prop::collection::vec(action, 0..150)
}

proptest! {
    #[test]
    fn whoever_waits_is_overtaken_no_more_often_than_the_bound_and_then_served_when_those_end_that_run(
        hot in prop::collection::vec(1usize..12, 2..8), cold in prop::collection::vec(1usize..=100, 1..4),
        is_tight in any::<bool>(), requests in requests(),
    ) {
        let num_hot = hot.len();
        let device: usize = hot.iter().sum();
        let cold: Vec<_> = cold.into_iter().map(|share| (device * share / 100).max(1)).collect();
        let sizes = [hot, cold.clone()].concat();
        let mut model = Model::new(device, if is_tight { device } else { 10 * device }, &sizes);
        // Who runs until which round.
        let mut running: Vec<(RequestId, usize)> = (0..num_hot).map(|index| (model.ask(&[index]), 5)).collect();
        model.settle();
        let cold: Vec<RequestId> = (num_hot..sizes.len()).map(|index| model.ask(&[index])).collect();
        model.settle();
        let mut served = vec![false; cold.len()];
        let mut overtaken = vec![0; cold.len()];
        for (round, (pick, rounds)) in requests.into_iter().enumerate() {
            let before = model.num_overtakes;
            running.push((model.ask_for(pick % 3, &[pick % num_hot]), round + rounds));
            model.settle();
            for at in (0..cold.len()).filter(|at| !served[*at]) {
                overtaken[at] += model.num_overtakes - before;
                // Each that came before it lets as many pass.
                prop_assert!(overtaken[at] <= (at + 1) * MAX_OVERTAKES, "{} overtook number {at}", overtaken[at]);
            }
            let over = running.extract_if(.., |(_, until)| *until <= round).collect::<Vec<_>>();
            for (id, _) in over {
                // One that waits itself has its rounds later.
                if model.has_lease(id) { model.end(id) } else { running.push((id, round + 1)) }
            }
            model.settle();
            for at in 0..cold.len() {
                if !served[at] && model.has_lease(cold[at]) {
                    served[at] = true;
                    running.push((cold[at], round + 5));
                }
            }
        }
        // At any moment nothing is needed to serve the first in the queue but that those end who run.
        for id in (0..cold.len()).filter(|at| !served[*at]).map(|at| cold[at]) {
            if !model.has_lease(id) {
                while let Some((lease, _)) = model.leases.first() {
                    model.end(*lease);
                }
                model.settle();
            }
            prop_assert!(model.has_lease(id), "it waits for something else");
        }
        model.drain();
    }

    #[test]
    fn every_waiter_is_granted_or_refused_without_a_deadlock_and_those_that_go_leave_nothing(
        device in 60usize..120, extra in 0usize..120, actions in actions(), cancels_all in any::<bool>(),
    ) {
        let mut model = Model::new(device, device + extra, &[5, 20, 30, 35, 45, 60]);
        for action in actions {
            match action {
                Action::Ask(tenant, adapters) => {
                    model.ask_for(tenant, &adapters);
                }
                Action::Settle => model.settle(),
                Action::StepLoad(index) => model.step_load(index),
                Action::Poll(at) if !model.waiters.is_empty() => {
                    let id = model.waiters[at % model.waiters.len()].0;
                    model.poll(id);
                }
                Action::Cancel(at) if !model.waiters.is_empty() => {
                    let id = model.waiters[at % model.waiters.len()].0;
                    model.cancel(id);
                }
                Action::End(at) if !model.leases.is_empty() => {
                    let id = model.leases[at % model.leases.len()].0;
                    model.end(id);
                }
                Action::Sleep(ms) => model.now += Duration::from_millis(ms),
                _ => {}
            }
            model.check();
        }
        if cancels_all {
            // Not even those that run end: a waiter is refused after `max_wait`, and then none is left.
            model.now += AdapterLimits::default().max_wait;
            model.settle();
            prop_assert!(model.waiters.is_empty());
        }
        model.drain();
    }
}
