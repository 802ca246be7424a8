//! The team alone: every chunk once, whoever parks, panics or leaves.

use super::*;

/// A tiny generator, so that runs repeat.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn every_chunk_runs_exactly_once_in_many_tiny_jobs() {
    let mut random = 7;
    for num_threads in [1, 2, 3, 5, 8] {
        let team = Team::new(num_threads);
        assert_eq!(team.num_threads(), num_threads);
        for round in 0..2_000 {
            let num_chunks = next_random(&mut random) as usize % 40;
            let counts: Vec<AtomicUsize> = (0..num_chunks).map(|_| AtomicUsize::new(0)).collect();
            team.run(num_chunks, &|chunk| {
                counts[chunk].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "round {round}");
        }
    }
}

#[test]
fn a_thread_begins_with_chunks_of_its_own_and_takes_those_of_one_that_does_not_come() {
    let team = Team::new(2);
    let caller = std::thread::current().id();
    for _ in 0..200 {
        let order = Mutex::new(Vec::new());
        team.run(64, &|chunk| lock(&order).push((std::thread::current().id() == caller, chunk)));
        let order = order.into_inner().expect("no panic");
        let of = |by_caller: bool| order.iter().filter(move |(by, _)| *by == by_caller).map(|(_, chunk)| *chunk);
        // The caller goes up through the first half, then down from the end of the second.
        let own: Vec<usize> = of(true).take_while(|chunk| *chunk < 32).collect();
        assert!(own.is_sorted() && own.iter().enumerate().all(|(at, chunk)| at == *chunk), "{own:?}");
        let others: Vec<usize> = of(true).skip(own.len()).collect();
        assert!(others.iter().enumerate().all(|(at, chunk)| 63 - at == *chunk), "{others:?}");
        // The worker, if it came at all, began with the second half.
        assert!(of(false).next().is_none_or(|chunk| chunk >= 32 || own.len() < 32), "{order:?}");
    }
}

#[test]
fn jobs_find_workers_that_have_parked() {
    let team = Team::new(3);
    for _ in 0..20 {
        std::thread::sleep(SPIN_IDLE * 4);
        let total = AtomicUsize::new(0);
        team.run(100, &|chunk| {
            total.fetch_add(chunk, Ordering::Relaxed);
        });
        assert_eq!(total.into_inner(), 4_950);
    }
}

#[test]
fn a_panic_in_a_chunk_reaches_the_caller_and_the_team_goes_on() {
    let team = Team::new(4);
    for bad in 0..50 {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            team.run(50, &|chunk| assert!(chunk != bad, "chunk {chunk} is bad"));
        }));
        let payload = caught.expect_err("the chunk panics");
        let message = payload.downcast_ref::<String>().expect("assert! makes a String");
        assert_eq!(*message, format!("chunk {bad} is bad"));
        let count = AtomicUsize::new(0);
        team.run(10, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 10);
    }
}

#[test]
fn teams_start_and_stop_in_any_state() {
    let mut random = 3;
    for _ in 0..100 {
        let team = Team::new(1 + next_random(&mut random) as usize % 4);
        if next_random(&mut random).is_multiple_of(2) {
            team.begin_step();
        }
        for _ in 0..next_random(&mut random) % 4 {
            team.run(3, &|_| {});
        }
        if next_random(&mut random).is_multiple_of(4) {
            std::thread::sleep(SPIN_IDLE * 3);
        }
    }
}
