//! The ledger by example, and against a model in which nothing is clever.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

const SIDES: [Side; 2] = [Side::Kv, Side::Adapters];

fn pool(total: usize, kv: (usize, Option<usize>), adapters: (usize, Option<usize>)) -> DeviceMemory {
    let limits = |(floor, cap): (usize, Option<usize>)| SideLimits {
        floor_bytes: floor * PAGE_BYTES,
        cap_bytes: cap.map(|pages| pages * PAGE_BYTES),
    };
    let config = MemoryConfig { total_bytes: total * PAGE_BYTES, kv: limits(kv), adapters: limits(adapters) };
    DeviceMemory::new(config).unwrap()
}

fn counting_waker(memory: &DeviceMemory, side: Side) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    memory.set_waker(
        side,
        Arc::new(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        }),
    );
    calls
}

#[test]
fn either_side_grows_up_to_the_others_floor() {
    let memory = pool(10, (3, None), (2, None));
    assert_eq!((memory.most(Side::Kv), memory.most(Side::Adapters)), (8, 7));
    assert!(memory.take(Side::Kv, 8) && !memory.take(Side::Kv, 1));
    assert!(memory.take(Side::Adapters, 2) && !memory.take(Side::Adapters, 1));
    memory.give_back(Side::Kv, 5);
    assert!(!memory.take(Side::Adapters, 6) && memory.take(Side::Adapters, 5), "a refusal takes nothing");
    assert_eq!((memory.used(Side::Kv), memory.used(Side::Adapters)), (3, 7));
}

#[test]
fn what_a_side_keeps_the_other_cannot_take_until_it_is_kept_no_more() {
    let memory = pool(10, (1, None), (2, None));
    let wakes = counting_waker(&memory, Side::Kv);
    assert!(memory.take(Side::Adapters, 4));
    memory.keep(Side::Adapters, 6);
    assert!(memory.take(Side::Kv, 4) && !memory.take(Side::Kv, 1), "two beside the four are kept");
    memory.ask(Side::Kv, 1);
    assert_eq!(memory.owes(Side::Adapters), 0);
    memory.keep(Side::Adapters, 9);
    assert_eq!(memory.available(Side::Adapters), 2, "what the other has stays its own");
    memory.keep(Side::Adapters, 3);
    assert_eq!((wakes.load(Ordering::SeqCst), memory.take(Side::Kv, 1)), (1, true));
}

#[test]
fn a_cap_bounds_a_side_and_its_floor() {
    let memory = pool(10, (4, Some(2)), (0, Some(3)));
    assert_eq!((memory.floor(Side::Kv), memory.most(Side::Kv), memory.most(Side::Adapters)), (2, 2, 3));
    assert!(memory.take(Side::Adapters, 3) && !memory.take(Side::Adapters, 1));
}

#[test]
fn divisions_that_cannot_work_are_refused_with_the_numbers() {
    let floors = |kv: usize, adapters: usize| MemoryConfig {
        total_bytes: 10 * PAGE_BYTES,
        kv: SideLimits { floor_bytes: kv * PAGE_BYTES, cap_bytes: None },
        adapters: SideLimits { floor_bytes: adapters * PAGE_BYTES, cap_bytes: None },
    };
    let error = DeviceMemory::new(floors(6, 5)).unwrap_err();
    assert!(matches!(error, MemoryError::FloorsExceedPool { total_bytes: 40_960, .. }), "{error}");
    let error = DeviceMemory::new(floors(10, 0)).unwrap_err();
    assert_eq!(error, MemoryError::NothingLeft { side: Side::Adapters, total_bytes: 40_960 });
    assert!(DeviceMemory::split(1, 0).is_err());
}

#[test]
fn asking_wakes_the_other_side_which_owes_what_is_missing() {
    let memory = pool(10, (2, None), (2, None));
    let (kv_calls, adapter_calls) = (counting_waker(&memory, Side::Kv), counting_waker(&memory, Side::Adapters));
    assert!(memory.take(Side::Kv, 8));
    memory.ask(Side::Adapters, 5);
    assert_eq!((kv_calls.load(Ordering::SeqCst), adapter_calls.load(Ordering::SeqCst)), (1, 0));
    assert_eq!((memory.owes(Side::Kv), memory.owes(Side::Adapters)), (3, 0), "two pages are free");
    memory.give_back(Side::Kv, 3);
    assert_eq!(adapter_calls.load(Ordering::SeqCst), 1, "the one who asked hears that pages came free");
    assert!(!memory.take(Side::Kv, 1), "they are kept for the one who asked");
    assert!(memory.take(Side::Adapters, 5));
    assert_eq!((memory.wanted(Side::Adapters), memory.owes(Side::Kv)), (0, 0));
}

#[test]
fn a_wish_that_no_gift_can_fulfil_takes_nothing_from_the_other() {
    let memory = pool(10, (2, None), (2, None));
    assert!(memory.take(Side::Kv, 8));
    memory.ask(Side::Adapters, 9);
    assert_eq!(memory.owes(Side::Kv), 0);
}

#[test]
fn a_standing_wish_does_not_hold_back_a_side_below_its_floor_and_a_withdrawn_one_nobody() {
    let memory = pool(10, (4, None), (2, None));
    assert!(memory.take(Side::Adapters, 3));
    memory.ask(Side::Adapters, 3);
    assert!(memory.take(Side::Kv, 4), "up to the floor");
    assert!(!memory.take(Side::Kv, 1));
    memory.ask(Side::Kv, 1);
    assert!(!memory.take(Side::Kv, 1), "the older wish comes first");
    memory.ask(Side::Adapters, 0);
    assert!(memory.take(Side::Kv, 3));
}

#[tokio::test]
async fn whoever_waits_hears_of_pages_that_come_free() {
    let memory = pool(4, (1, None), (1, None));
    assert!(memory.take(Side::Kv, 3));
    let freed = memory.freed();
    tokio::pin!(freed);
    freed.as_mut().enable();
    assert!(!memory.take(Side::Adapters, 3));
    memory.give_back(Side::Kv, 2);
    freed.await;
    assert!(memory.take(Side::Adapters, 3));
}

#[derive(Clone, Debug)]
enum Op {
    Take(Side, usize),
    GiveBack(Side, usize),
    Ask(Side, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let side = || prop_oneof![Just(Side::Kv), Just(Side::Adapters)];
    let op = prop_oneof![
        4 => (side(), 0..12usize).prop_map(|(side, pages)| Op::Take(side, pages)),
        3 => (side(), 0..12usize).prop_map(|(side, pages)| Op::GiveBack(side, pages)),
        2 => (side(), 0..12usize).prop_map(|(side, pages)| Op::Ask(side, pages)),
    ];
    prop::collection::vec(op, 0..120)
}

proptest! {
    #[test]
    fn floors_hold_nothing_is_lost_and_wishes_wake(
        ops in ops(), kv_floor in 0..10usize, adapter_floor in 0..10usize, cap in prop::option::of(1..24usize),
    ) {
        let total = 24;
        let memory = pool(total, (kv_floor, None), (adapter_floor, cap));
        let calls = SIDES.map(|side| counting_waker(&memory, side));
        let mut held = [0usize; 2];
        for op in ops {
            match op {
                Op::Take(side, pages) => {
                    let (at, other) = (side.index(), side.other());
                    let below_floor = held[at] + pages <= memory.floor(side);
                    let fits = held[at] + pages <= memory.most(side) && held[0] + held[1] + pages <= total;
                    let nobody_waits = memory.wanted(other) == 0;
                    let leaves_floor =
                        held[0] + held[1] + pages + memory.floor(other).saturating_sub(held[other.index()]) <= total;
                    let taken = memory.take(side, pages);
                    prop_assert!(fits || !taken);
                    prop_assert!(!below_floor || taken, "a floor is always to be had");
                    prop_assert!(!(fits && leaves_floor && nobody_waits) || taken, "free pages are not kept for nobody");
                    held[at] += if taken { pages } else { 0 };
                }
                Op::GiveBack(side, pages) => {
                    let pages = pages.min(held[side.index()]);
                    let before = calls[side.other().index()].load(Ordering::SeqCst);
                    memory.give_back(side, pages);
                    held[side.index()] -= pages;
                    let waits = pages > 0 && memory.wanted(side.other()) > 0;
                    prop_assert_eq!(calls[side.other().index()].load(Ordering::SeqCst) - before, usize::from(waits));
                }
                Op::Ask(side, pages) => {
                    let before = calls[side.other().index()].load(Ordering::SeqCst);
                    memory.ask(side, pages);
                    prop_assert_eq!(memory.wanted(side), pages);
                    prop_assert!(pages == 0 || calls[side.other().index()].load(Ordering::SeqCst) == before + 1);
                    // Once the other has given what it owes, the older wish can be taken.
                    let owed = memory.owes(side.other());
                    prop_assert!(held[side.other().index()] - owed >= memory.floor(side.other()).min(held[side.other().index()]));
                }
            }
            for side in SIDES {
                prop_assert_eq!(memory.used(side), held[side.index()]);
                prop_assert!(held[side.index()] <= memory.most(side));
                prop_assert!(memory.available(side) + held[side.index()] <= memory.most(side));
            }
            prop_assert!(held[0] + held[1] <= total);
        }
        // With nothing held and no wishes, everything can be had again.
        for side in SIDES {
            memory.ask(side, 0);
            memory.give_back(side, held[side.index()]);
        }
        for side in SIDES {
            prop_assert!(memory.take(side, memory.most(side)));
            memory.give_back(side, memory.most(side));
        }
    }

    #[test]
    fn who_gives_what_it_owes_fulfils_the_older_wish(
        kv in 0..20usize, adapters in 0..20usize, pages in 1..20usize, asks_kv in any::<bool>(),
    ) {
        let memory = pool(24, (4, None), (4, None));
        prop_assume!(memory.take(Side::Kv, kv) && memory.take(Side::Adapters, adapters));
        let side = if asks_kv { Side::Kv } else { Side::Adapters };
        memory.ask(side, pages);
        let possible = memory.used(side) + pages <= memory.most(side);
        memory.give_back(side.other(), memory.owes(side.other()));
        prop_assert_eq!(memory.take(side, pages), possible);
    }
}
