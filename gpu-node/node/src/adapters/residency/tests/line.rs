//! The bound on how often those that wait for room are passed.

use super::*;

impl Sim {
    /// Joins if that passes nobody more often than may be. Says whether it passed the first in a line.
    fn enter(&mut self, index: usize) -> Option<bool> {
        let digests = [digest(index)];
        if !self.residency.lets_pass(&digests) {
            return None;
        }
        let passes = self.residency.passes_others(&digests) && self.residency.somebody_waits();
        self.residency.count_pass(&digests);
        self.join(index).unwrap();
        Some(passes)
    }

    /// Loads go on as far as they can, and those that wait look again.
    fn step_all(&mut self) {
        let mut at = 0;
        while let num_loads = self.loads.len()
            && at < num_loads
        {
            self.step_load(at, None);
            at += usize::from(self.loads.len() == num_loads);
        }
        (0..self.users.len()).for_each(|at| self.poll(at));
        self.check();
    }

    fn has_lease(&self, id: EntryId) -> bool {
        self.users.iter().any(|user| user.id == id && user.lease.is_some())
    }

    /// The oldest lease on an adapter ends.
    fn release_one_of(&mut self, id: EntryId) {
        let at = self.users.iter().position(|user| user.id == id && user.lease.is_some());
        self.release(at.expect("it is leased"));
    }
}

#[test]
fn adapters_that_are_never_idle_do_not_starve_one_that_needs_their_room() {
    // In the first case it waits for the device, in the second its load waits for host memory.
    for host_bytes in [60, 20] {
        let mut sim = Sim::new(limits(20, host_bytes), &[10, 10, 15]);
        let hot = [0, 1].map(|index| sim.join(index).unwrap());
        sim.step_all();
        let cold = sim.join(2).unwrap();
        sim.step_all();
        let mut num_passes = 0;
        // The next request for a hot adapter always comes before the last one ends.
        for round in 0.. {
            match sim.enter(round % 2) {
                Some(passes) => num_passes += usize::from(passes),
                None => break,
            }
            sim.step_all();
            sim.release_one_of(hot[round % 2]);
            sim.step_all();
            assert!(!sim.has_lease(cold), "there was no room at any moment");
            assert!(num_passes <= MOST_PASSES);
        }
        assert_eq!(num_passes, MOST_PASSES);
        // The door is shut for one like these, not for others, who take their place in the line.
        assert!(sim.enter(1).is_none());
        for id in hot {
            sim.release_one_of(id);
        }
        sim.step_all();
        assert!(sim.has_lease(cold), "it needed nothing but that those end who held a lease");
        assert_eq!(sim.enter(2), Some(false), "the door is open again");
        sim.drain();
    }
}

/// A request that is made in some round for one of the hot adapters, and runs for some rounds.
fn requests() -> impl Strategy<Value = Vec<(usize, usize)>> {
    prop::collection::vec((any::<usize>(), 1usize..6), 60..200)
}

proptest! {
    #[test]
    fn whoever_waits_is_passed_by_no_more_than_the_bound_and_then_served_when_those_end_that_run(
        hot in prop::collection::vec(1usize..12, 2..8), cold in prop::collection::vec(1usize..=100, 1..4),
        is_tight in any::<bool>(), requests in requests(),
    ) {
        let num_hot = hot.len();
        let device: usize = hot.iter().sum();
        let cold: Vec<_> = cold.into_iter().map(|share| (device * share / 100).max(1)).collect();
        let sizes = [hot, cold.clone()].concat();
        let mut sim = Sim::new(limits(device, if is_tight { device } else { 10 * device }), &sizes);
        // Who runs until which round.
        let mut running: Vec<(EntryId, usize)> = (0..num_hot).map(|index| (sim.join(index).unwrap(), 5)).collect();
        sim.step_all();
        let cold: Vec<EntryId> = (num_hot..sizes.len()).map(|index| sim.join(index).unwrap()).collect();
        sim.step_all();
        let mut served = vec![false; cold.len()];
        let mut num_passes = vec![0; cold.len()];
        for (round, (pick, rounds)) in requests.into_iter().enumerate() {
            let entered = sim.enter(pick % num_hot);
            for at in (0..cold.len()).filter(|at| !served[*at]) {
                num_passes[at] += usize::from(entered == Some(true));
                // Each that came before it lets as many pass.
                prop_assert!(num_passes[at] <= (at + 1) * MOST_PASSES, "{} passed number {at}", num_passes[at]);
            }
            if entered.is_some() {
                running.push((sim.users.last().expect("one has joined").id, round + rounds));
            }
            sim.step_all();
            let over = running.extract_if(.., |(_, until)| *until <= round).collect::<Vec<_>>();
            for (id, _) in over {
                match sim.users.iter().position(|user| user.id == id && user.lease.is_some()) {
                    Some(at) => sim.release(at),
                    // It waits itself; its rounds begin later.
                    None => running.push((id, round + 1)),
                }
            }
            sim.step_all();
            for at in 0..cold.len() {
                if !served[at] && sim.has_lease(cold[at]) {
                    served[at] = true;
                    running.push((cold[at], round + 5));
                }
            }
        }
        // At any moment nothing is needed to serve the first in the line but that those end who run.
        for id in (0..cold.len()).filter(|at| !served[*at]).map(|at| cold[at]) {
            if !sim.has_lease(id) {
                for at in (0..sim.users.len()).rev().filter(|at| sim.users[*at].lease.is_some()).collect::<Vec<_>>() {
                    sim.release(at);
                }
                sim.step_all();
            }
            prop_assert!(sim.has_lease(id), "it waits for something else");
        }
        sim.drain();
    }
}
