//! What looking again costs those that wait.

use super::*;

/// A residency in which one tenant has all that it may have of the device and asks so many times for an adapter that
/// another uses; 64 tenants use one each, and so many adapters beside are idle.
fn sim(num_waiting: usize, num_idle: usize) -> Sim {
    let sizes = [vec![896], vec![1; 64], vec![4; num_idle]].concat();
    let sizes: Vec<usize> = sizes.into_iter().map(|pages| pages * PAGE_BYTES).collect();
    let mut sim = Sim::new(limits(1024 * PAGE_BYTES, 8192 * PAGE_BYTES), &sizes);
    (0..num_idle).for_each(|index| sim.use_once(65 + index));
    for index in 0..=64 {
        sim.join_as(&index.to_string(), index).unwrap();
        if !sim.loads.is_empty() {
            sim.step_load(0, None);
        }
        sim.poll(index);
        assert!(sim.users[index].lease.is_some());
    }
    for _ in 0..num_waiting {
        assert_eq!(sim.join_as("0", 1).unwrap(), None, "it has all but the reserve");
    }
    sim
}

#[test]
fn however_many_look_after_a_change_what_is_in_use_is_counted_once_for_each_tier() {
    let mut sim = sim(3, 5);
    let before = sim.residency.num_counts;
    sim.release(64);
    assert_eq!(sim.residency.num_counts - before, 1, "the device, of which the reserve is kept");
    for _ in 0..2 {
        (0..sim.users.len()).for_each(|at| sim.poll(at));
        assert_eq!(sim.residency.num_counts - before, 2, "and the host as the first looks");
    }
    sim.drain();
}

#[test]
#[ignore = "a measurement, which prints a table"]
fn what_a_change_costs_while_requests_wait_outside() {
    const ROUNDS: u32 = 50;
    println!("| waiting | idle adapters | a change and all looks, µs | a look |");
    println!("| ---: | ---: | ---: | ---: |");
    for (num_waiting, num_idle) in [(0, 64), (16, 64), (64, 64), (64, 1000), (256, 1000)] {
        let mut sim = sim(num_waiting, num_idle);
        let began = Instant::now();
        for _ in 0..ROUNDS {
            let at = sim.users.iter().position(|user| user.digest == digest(64)).unwrap();
            sim.release(at);
            sim.join_as("64", 64).unwrap();
            (0..sim.users.len()).for_each(|at| sim.poll(at));
        }
        let micros = began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
        let look = micros / num_waiting.max(1) as f64;
        println!("| {num_waiting} | {num_idle} | {micros:.0} | {look:.1} |");
    }
}
