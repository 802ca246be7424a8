//! Whose turn it is for room, and what is kept for those who have nothing.

use super::*;

const PAGES: usize = 80;
/// The last is small: the reserve is ten pages, and half of it is small.
const SIZES: [usize; 7] = [5, 20, 30, 45, 60, 78, 4];
const SMALL: usize = 6;
/// Two more that are small, one of them half of the reserve like the newcomer's where that is eight pages.
const WITH_SMALL_ONES: [usize; 7] = [4, 3, 30, 45, 20, 60, 4];
/// Two tenants who take what they can.
const GREEDY: [&str; 2] = ["greedy", "other"];

fn sim(memory: DeviceMemory) -> Sim {
    sim_of(memory, &SIZES)
}

/// Adapters of so many pages, with room for 80 in either tier.
fn sim_of(memory: DeviceMemory, sizes: &[usize]) -> Sim {
    let sizes: Vec<usize> = sizes.iter().map(|pages| pages * PAGE_BYTES).collect();
    Sim::in_pool(limits(PAGES * PAGE_BYTES, PAGES * PAGE_BYTES), memory, &sizes)
}

/// Whether a tenant that has nothing has the small adapter as soon as it is loaded.
fn newcomer_is_served(sim: &mut Sim) -> bool {
    sim.join_as("newcomer", SMALL).unwrap();
    if let Some(at) = sim.loads.iter().position(|(_, index)| *index == SMALL) {
        sim.step_load(at, None);
    }
    let at = sim.users.len() - 1;
    sim.poll(at);
    sim.check();
    sim.users[at].lease.is_some()
}

/// Loads what can be loaded and looks for everybody, as often as it takes.
fn settle(sim: &mut Sim) {
    for _ in 0..4 {
        (0..sim.loads.len()).rev().for_each(|at| sim.step_load(at, None));
        (0..sim.users.len()).rev().for_each(|at| sim.poll(at));
        (0..sim.gatherers.len()).rev().for_each(|at| sim.poll_gatherer(at));
    }
    sim.check();
}

proptest! {
    #[test]
    fn whatever_two_tenants_have_and_wait_for_a_small_adapter_of_one_that_has_nothing_finds_room(
        shared in prop::option::of(45usize..100), actions in actions(),
    ) {
        // In a pool that K and V share, the adapters' floor holds the reserve twice.
        let memory = shared.map(|shared| {
            let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
            let total_bytes = (10 + 20 + shared) * PAGE_BYTES;
            DeviceMemory::new(MemoryConfig { total_bytes, kv: floor(10), adapters: floor(20) }).unwrap()
        });
        // Two who hold all slots of loads but the one that is kept would have that too between them.
        let limits = AdapterLimits { max_concurrent_loads: 16, ..limits(PAGES * PAGE_BYTES, PAGES * PAGE_BYTES) };
        let sizes = WITH_SMALL_ONES.map(|pages| pages * PAGE_BYTES);
        let mut sim = Sim::in_pool(limits, memory.clone().unwrap_or_else(ample_memory), &sizes);
        for action in actions {
            match action {
                Action::Join(tenant, index) => drop(sim.join_as(GREEDY[usize::from(tenant % 2)], index)),
                Action::Gather(tenant, indices) => sim.gather_as(GREEDY[usize::from(tenant % 2)], &indices),
                Action::PollGatherer(at) if !sim.gatherers.is_empty() => sim.poll_gatherer(at % sim.gatherers.len()),
                Action::ReleaseGatherer(at) if !sim.gatherers.is_empty() => {
                    sim.release_gatherer(at % sim.gatherers.len());
                }
                Action::StepLoad(at) if !sim.loads.is_empty() => sim.step_load(at % sim.loads.len(), None),
                Action::Poll(at) if !sim.users.is_empty() => sim.poll(at % sim.users.len()),
                Action::Release(at) if !sim.users.is_empty() => sim.release(at % sim.users.len()),
                Action::Prefetch(index) => sim.prefetch(index),
                Action::TakePages(pages) => if let Some(memory) = &memory
                    && !memory.take(Side::Kv, pages)
                    && memory.used(Side::Kv) + pages <= memory.most(Side::Kv)
                {
                    memory.ask(Side::Kv, pages);
                    sim.residency.look_again(sim.now);
                }
                Action::GiveBackPages(pages) => if let Some(memory) = &memory {
                    memory.give_back(Side::Kv, pages.min(memory.used(Side::Kv)));
                    sim.residency.look_again(sim.now);
                }
                _ => {}
            }
            sim.check();
        }
        prop_assert!(newcomer_is_served(&mut sim), "{:?}", sim.residency);
    }
}

#[test]
fn one_tenant_has_all_but_the_reserve_and_another_comes_past_what_it_waits_for() {
    let mut sim = sim(ample_memory());
    for index in [1, 3, 2] {
        sim.join(index).unwrap();
        settle(&mut sim);
    }
    let leased = |sim: &Sim| sim.users.iter().map(|user| user.lease.is_some()).collect::<Vec<_>>();
    assert_eq!(leased(&sim), [true, true, false], "20 and 45 of 70 pages, and 30 that wait");
    sim.join(0).unwrap();
    settle(&mut sim);
    assert_eq!(leased(&sim), [true, true, false, false], "its small one is not what the reserve is for");
    assert!(newcomer_is_served(&mut sim));
    // What the newcomer has of the reserve is no hindrance to one that waits: 45 pages go, 30 and 20 are there.
    sim.release(1);
    settle(&mut sim);
    assert!(sim.users.iter().any(|user| user.lease.is_some() && user.digest == digest(2)));
    sim.drain();
}

#[test]
fn of_two_who_wait_the_one_that_has_less_comes_first() {
    let mut sim = sim(ample_memory());
    sim.join_as("greedy", 3).unwrap();
    settle(&mut sim);
    for (tenant, index) in [("greedy", 2), ("other", 4)] {
        sim.join_as(tenant, index).unwrap();
        settle(&mut sim);
    }
    let at = sim.users.iter().position(|user| user.digest == digest(3)).unwrap();
    sim.release(at);
    sim.join_as("greedy", 1).unwrap();
    settle(&mut sim);
    let has = |index: usize| sim.users.iter().any(|user| user.digest == digest(index) && user.lease.is_some());
    assert!(has(2) && !has(4), "both had nothing, and the greedy one's came first");
    assert!(!has(1), "now it has something, and the other waits for more than is left");
    sim.drain();
}

#[test]
fn an_adapter_that_does_not_fit_beside_the_reserve_is_refused_with_both_numbers() {
    let mut sim = sim(ample_memory());
    let id = sim.join(5).unwrap();
    let refused = sim.residency.reserve(id, 78 * PAGE_BYTES, sim.now).unwrap_err();
    let expected = "the adapter takes 319488 bytes, of the device tier of this node one request may have 286720";
    assert_eq!(refused.to_string(), expected);
    sim.drain();
}

/// A pool of 92 pages that K and V share: the reserve is ten of them, and adapters have at most 80.
fn shared_memory() -> DeviceMemory {
    let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
    DeviceMemory::new(MemoryConfig { total_bytes: 92 * PAGE_BYTES, kv: floor(10), adapters: floor(20) }).unwrap()
}

/// The found case: K and V have all that is neither in use nor reserve, and an idle adapter lies in the reserve.
#[test]
fn an_idle_adapter_in_the_reserve_is_not_used_until_as_much_is_there_beside_it() {
    let memory = shared_memory();
    let mut sim = sim(memory.clone());
    sim.use_once(1);
    sim.join(3).unwrap();
    settle(&mut sim);
    assert!(memory.take(Side::Kv, 24));
    assert_eq!(memory.used(Side::Adapters), 65, "45 in use, 20 idle, three pages free");
    sim.join(1).unwrap();
    settle(&mut sim);
    assert!(sim.users[0].lease.is_some() && sim.users[1].lease.is_none(), "ten pages would not be left");
    assert!(newcomer_is_served(&mut sim));
    // What is missing beside 45, 20 and the reserve is asked of K and V, and then it has its turn.
    assert_eq!(memory.owes(Side::Kv), 7);
    memory.give_back(Side::Kv, 7);
    sim.residency.look_again(sim.now);
    settle(&mut sim);
    assert!(sim.users.iter().all(|user| user.lease.is_some()));
    sim.drain();
    memory.give_back(Side::Kv, 17);
}

#[test]
fn what_another_uses_of_the_reserve_is_not_used_until_as_much_is_there_beside_it() {
    let memory = shared_memory();
    let mut sim = sim(memory.clone());
    assert!(memory.take(Side::Kv, 36));
    for (tenant, index) in [("other", SMALL), ("greedy", 3)] {
        sim.join_as(tenant, index).unwrap();
        settle(&mut sim);
    }
    assert_eq!(memory.used(Side::Adapters), 49, "45 beside four of the reserve, seven pages free");
    assert_eq!(sim.join_as("greedy", SMALL).unwrap(), None, "then the four would be part of it no more");
    assert_eq!((memory.wanted(Side::Adapters), memory.owes(Side::Kv)), (10, 3));
    sim.release(2);
    assert_eq!(memory.wanted(Side::Adapters), 0, "nobody waits for them any more");
    assert_eq!(sim.join_as("greedy", SMALL).unwrap(), None);
    memory.give_back(Side::Kv, 3);
    sim.residency.look_again(sim.now);
    assert!(!memory.take(Side::Kv, 1), "the pages are kept for the one who asked");
    settle(&mut sim);
    assert!(sim.users.iter().all(|user| user.lease.is_some()));
    assert_eq!(memory.wanted(Side::Adapters), 0);
    assert!(!memory.take(Side::Kv, 1), "they are the reserve");
    sim.drain();
    memory.give_back(Side::Kv, 33);
}

#[test]
fn a_request_for_several_that_are_in_memory_leaves_the_reserve_too() {
    for host_pages in [PAGES, 2 * PAGES] {
        let limits = limits(PAGES * PAGE_BYTES, host_pages * PAGE_BYTES);
        let mut sim = Sim::in_pool(limits, ample_memory(), &SIZES.map(|pages| pages * PAGE_BYTES));
        sim.use_once(2);
        sim.use_once(0);
        sim.join(3).unwrap();
        settle(&mut sim);
        assert_eq!(sim.residency.totals().device_bytes, PAGES * PAGE_BYTES, "45 pages in use, 30 and five idle");
        let holder = Some(TenantId::from_stored("tenant"));
        let (several, digests) = (sim.residency.ask(2, &holder, sim.now), [digest(2), digest(0)]);
        assert!(sim.residency.poll(several, &digests, sim.now).unwrap().is_none(), "45 and 35 of 70 pages");
        assert!(newcomer_is_served(&mut sim));
        sim.release(0);
        for _ in 0..3 {
            if let Some(granted) = sim.residency.poll(several, &digests, sim.now).unwrap() {
                granted.iter().for_each(|(id, _)| sim.residency.release(*id, &holder, sim.now));
                break;
            }
            sim.begin_loads();
            settle(&mut sim);
        }
        sim.drain();
        assert!(sim.residency.waiting.is_empty(), "it had its turn when the 45 were given back");
    }
}

/// What the other tenant uses is part of the reserve only as long as the greedy one does not use it too.
#[test]
fn a_request_for_several_keeps_none_while_one_that_another_uses_would_come_out_of_the_reserve() {
    let memory = shared_memory();
    let mut sim = sim_of(memory.clone(), &[5, 45, 20, 4, 5]);
    assert!(memory.take(Side::Kv, 37));
    for (tenant, index) in [("other", 0), ("greedy", 1)] {
        sim.join_as(tenant, index).unwrap();
        settle(&mut sim);
    }
    assert_eq!((memory.used(Side::Adapters), memory.available(Side::Adapters)), (50, 5));
    sim.gather_as("greedy", &[0, 2]);
    settle(&mut sim);
    let greedy = Some(TenantId::from_stored("greedy"));
    let holds =
        |sim: &Sim| sim.residency.room.entries[&sim.users[0].id].holders_in(Tier::Device).any(|one| *one == greedy);
    assert!(!holds(&sim), "then the five would be part of the reserve no more");
    assert_eq!((memory.wanted(Side::Adapters), memory.owes(Side::Kv)), (10, 5), "K and V are asked for as much");
    // The other goes, and the five go too, since two newcomers need all of the reserve.
    sim.release(0);
    settle(&mut sim);
    for (tenant, index) in [("one", 3), ("another", 4)] {
        sim.join_as(tenant, index).unwrap();
        settle(&mut sim);
    }
    assert!(sim.users.iter().all(|user| user.lease.is_some()), "both are served");
    assert!(sim.gatherers[0].leases.is_empty());
    memory.give_back(Side::Kv, 37);
    sim.residency.look_again(sim.now);
    settle(&mut sim);
    assert_eq!(sim.gatherers[0].leases.len(), 2, "and it when there is room beside them");
    sim.drain();
}

#[test]
fn a_request_for_several_that_others_use_says_after_its_wait_that_there_was_no_room() {
    let memory = shared_memory();
    let mut sim = sim(memory.clone());
    assert!(memory.take(Side::Kv, 36));
    for (tenant, index) in [("other", 0), ("another", SMALL), ("greedy", 3)] {
        sim.join_as(tenant, index).unwrap();
        settle(&mut sim);
    }
    let holder = Some(TenantId::from_stored("greedy"));
    let (several, digests) = (sim.residency.ask(2, &holder, sim.now), [digest(0), digest(SMALL)]);
    assert!(sim.residency.poll(several, &digests, sim.now).unwrap().is_none());
    sim.now += AdapterLimits::default().max_wait;
    let refused = sim.residency.poll(several, &digests, sim.now).unwrap_err();
    assert!(matches!(refused, AdapterError::NoRoom { tier: Tier::Device, needed_bytes: 20_480, .. }), "{refused}");
    sim.residency.cancel(several, sim.now);
    assert_eq!(memory.wanted(Side::Adapters), 0, "and asks for nothing any more");
    sim.drain();
}

#[test]
fn a_request_for_several_that_never_fit_into_host_memory_is_refused_before_all_have_been_read() {
    let mut sim = sim(ample_memory());
    let holder = Some(TenantId::from_stored("greedy"));
    let (several, digests) = (sim.residency.ask(2, &holder, sim.now), [digest(2), digest(3)]);
    assert!(sim.residency.poll(several, &digests, sim.now).unwrap().is_none());
    sim.begin_loads();
    settle(&mut sim);
    let refused = sim.residency.poll(several, &digests, sim.now).unwrap_err();
    let expected = "the request's adapters take at least 307200 bytes together, of the device tier of this node one \
                    request may have 286720";
    assert_eq!(refused.to_string(), expected, "30 and 45 of 70 pages, of which one waits for the other's");
    sim.residency.cancel(several, sim.now);
    sim.drain();
}

#[test]
fn who_waits_outside_for_pages_asks_for_them_although_others_in_the_queue_wait_for_their_share() {
    let memory = shared_memory();
    let limits = limits(PAGES * PAGE_BYTES, 10 * PAGES * PAGE_BYTES);
    let mut sim = Sim::in_pool(limits, memory.clone(), &SIZES.map(|pages| pages * PAGE_BYTES));
    assert!(memory.take(Side::Kv, 46));
    for (tenant, index) in [("a", 2), ("b", 2), ("c", 0), ("other", SMALL)] {
        sim.join_as(tenant, index).unwrap();
        settle(&mut sim);
    }
    assert!(sim.users.iter().all(|user| user.lease.is_some()));
    assert_eq!((memory.used(Side::Adapters), memory.available(Side::Adapters)), (39, 7));
    // Both have 30 pages, and with these 20 each would have more than its part.
    for tenant in ["a", "b"] {
        sim.join_as(tenant, 1).unwrap();
    }
    settle(&mut sim);
    assert!(sim.residency.waiting.is_queued(Tier::Device));
    assert_eq!(memory.wanted(Side::Adapters), 0, "what they wait for K and V do not have");
    assert_eq!(sim.join_as("c", SMALL).unwrap(), None, "its nine pages would come out of the reserve");
    assert_eq!((memory.wanted(Side::Adapters), memory.owes(Side::Kv)), (10, 3));
    memory.give_back(Side::Kv, 3);
    sim.residency.look_again(sim.now);
    settle(&mut sim);
    assert!(sim.users.iter().any(|user| user.holder == Some(TenantId::from_stored("c"))
        && user.digest == digest(SMALL)
        && user.lease.is_some()));
    assert!(sim.residency.waiting.is_queued(Tier::Device), "the two wait on");
    memory.give_back(Side::Kv, 43);
    sim.residency.look_again(sim.now);
    sim.drain();
}

#[test]
fn an_adapter_stays_on_the_device_while_its_request_may_not_enter() {
    let memory = shared_memory();
    let mut sim = sim(memory.clone());
    sim.use_once(1);
    sim.join(3).unwrap();
    settle(&mut sim);
    assert!(memory.take(Side::Kv, 24));
    // Another's 60 pages wait for host memory, and have been overtaken as often as may be.
    sim.join_as("other", 4).unwrap();
    settle(&mut sim);
    for _ in 0..MAX_OVERTAKES {
        sim.join(3).unwrap();
        assert!(sim.users[2].lease.is_some());
        sim.release(2);
    }
    let is_on_device = |sim: &Sim| sim.resident().contains(&(1, Tier::Device));
    assert_eq!(sim.join_as("tenant", 1).unwrap(), None);
    assert!(is_on_device(&sim), "it would have to make room beside it, and does so when it enters");
    // When it may enter, it leaves the device and waits there in the queue.
    sim.release(1);
    sim.poll(1);
    assert!(!is_on_device(&sim) && sim.residency.waiting.is_queued(Tier::Device));
    memory.give_back(Side::Kv, 24);
    sim.residency.look_again(sim.now);
    sim.drain();
}

#[test]
fn a_small_adapter_that_comes_in_the_turn_of_a_small_tenant_is_not_a_large_ones_too() {
    // In the first case the load waits for host memory, in the second the adapter for the device.
    for (host_pages, gathers) in [(PAGES, false), (10 * PAGES, false), (PAGES, true), (10 * PAGES, true)] {
        let sizes = [66, 5, 5, 5].map(|pages| pages * PAGE_BYTES);
        let mut sim = Sim::in_pool(limits(PAGES * PAGE_BYTES, host_pages * PAGE_BYTES), ample_memory(), &sizes);
        sim.join_as("greedy", 0).unwrap();
        settle(&mut sim);
        match gathers {
            false => drop(sim.join_as("greedy", 1).unwrap()),
            true => sim.gather_as("greedy", &[1, 1]),
        }
        sim.join_as("other", 1).unwrap();
        settle(&mut sim);
        let lease_of = |sim: &Sim, tenant: &str, index: usize| {
            let holder = Some(TenantId::from_stored(tenant));
            sim.users.iter().position(|one| one.holder == holder && one.digest == digest(index) && one.lease.is_some())
        };
        let of_other = lease_of(&sim, "other", 1).expect("five pages are small");
        let has_more =
            |sim: &Sim| lease_of(sim, "greedy", 1).is_some() || sim.gatherers.iter().any(|one| !one.leases.is_empty());
        assert!(!has_more(&sim), "66 and five of 70 pages");
        sim.release(of_other);
        for (tenant, index) in [("other", 2), ("newcomer", 3)] {
            sim.join_as(tenant, index).unwrap();
            settle(&mut sim);
            assert!(lease_of(&sim, tenant, index).is_some(), "all of the reserve is theirs");
        }
        assert!(!has_more(&sim));
        let large = lease_of(&sim, "greedy", 0).unwrap();
        sim.release(large);
        settle(&mut sim);
        assert!(has_more(&sim), "what it waits for comes when it has given back enough");
        sim.drain();
    }
}
