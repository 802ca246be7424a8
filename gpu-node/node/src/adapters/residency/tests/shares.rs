//! Whose turn it is for room, and what is kept for those who have nothing.

use super::*;

const PAGES: usize = 80;
/// The last is small: the reserve is ten pages, and half of it is small.
const SIZES: [usize; 7] = [5, 20, 30, 45, 60, 78, 4];
const SMALL: usize = 6;

fn sim(memory: DeviceMemory) -> Sim {
    let bytes = PAGES * PAGE_BYTES;
    Sim::in_pool(limits(bytes, bytes), memory, &SIZES.map(|pages| pages * PAGE_BYTES))
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
    }
    sim.check();
}

proptest! {
    #[test]
    fn whatever_one_tenant_has_and_waits_for_a_small_adapter_of_one_that_has_nothing_finds_room(
        shared in prop::option::of(45usize..100), actions in actions(),
    ) {
        // In a pool that K and V share, the adapters' floor holds the reserve twice.
        let memory = shared.map(|shared| {
            let floor = |pages: usize| SideLimits { floor_bytes: pages * PAGE_BYTES, cap_bytes: None };
            let total_bytes = (10 + 20 + shared) * PAGE_BYTES;
            DeviceMemory::new(MemoryConfig { total_bytes, kv: floor(10), adapters: floor(20) }).unwrap()
        });
        let mut sim = sim(memory.clone().unwrap_or_else(ample_memory));
        for action in actions {
            match action {
                Action::Join(_, index) => drop(sim.join_as("greedy", index)),
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
