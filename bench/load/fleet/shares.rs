//! What tenants got of a fleet, beside what was due to them.

use serde::Serialize;

use super::clock::Moment;
use super::lanes::Tenant;
use crate::fairness::fairness_index;

/// Requests of a tenant below which one of a hundred is no measure.
const LEAST_REQUESTS: usize = 100;

/// Of each tenant, what it asked for, what it got, and how long it waited.
#[derive(Debug)]
pub(super) struct Shares(Vec<OfTenant>);

#[derive(Clone, Debug, Default)]
struct OfTenant {
    /// Seconds of answers that it has asked for, until the end.
    asked: f64,
    /// Those of them that began before what is measured, and within it.
    served_before: f64,
    served: f64,
    /// The waits of its requests, in microseconds.
    waits: Vec<Moment>,
}

/// How even a fleet was to its tenants where there was too little for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evenness {
    /// What a tenant got of what was due to it: that of the tenant that got least. 1: nobody got less. Due is what each would have if
    /// what was served had been shared evenly, nobody getting more than asked for.
    pub least: f64,
    /// Jain's index of that over tenants.
    pub index: f64,
}

impl Shares {
    pub(super) fn new(num_tenants: usize) -> Self {
        Self(vec![OfTenant::default(); num_tenants])
    }

    /// A tenant asks for an answer of so many seconds.
    pub(super) fn asked(&mut self, tenant: Tenant, seconds: f64) {
        self.0[tenant].asked += seconds;
    }

    /// Such an answer begins, within what is measured or before.
    pub(super) fn served(&mut self, tenant: Tenant, seconds: f64, is_measured: bool) {
        let one = &mut self.0[tenant];
        *(if is_measured { &mut one.served } else { &mut one.served_before }) += seconds;
    }

    /// A request that counts has waited so long.
    pub(super) fn waited(&mut self, tenant: Tenant, waited: Moment) {
        self.0[tenant].waits.push(waited);
    }

    /// The wait that 99 % of a tenant's requests do not exceed: that of the tenant with the longest, by the median tenant's.
    /// `None` where none has requests enough, or the median one's do not wait.
    pub(super) fn worst_wait(&self) -> Option<f64> {
        let enough = self.0.iter().filter(|one| one.waits.len() >= LEAST_REQUESTS);
        let mut tails: Vec<_> = enough.map(|one| tail(one.waits.clone())).collect();
        tails.sort_unstable();
        let (worst, median) = (*tails.last()?, tails[tails.len() / 2]);
        (median > 0).then(|| worst as f64 / median as f64)
    }

    /// See [`Evenness`]; `None` where nothing was served.
    pub(super) fn evenness(&self) -> Option<Evenness> {
        // What waited when it began is asked for as well.
        let wanted: Vec<f64> = self.0.iter().map(|one| (one.asked - one.served_before).max(0.0)).collect();
        let level = even_level(&wanted, self.0.iter().map(|one| one.served).sum());
        let parts = self.0.iter().zip(&wanted).filter(|(_, wanted)| **wanted > 0.0);
        let parts: Vec<f64> = parts.map(|(one, wanted)| one.served / wanted.min(level)).collect();
        let index = fairness_index(&parts, &vec![1.0; parts.len()])?;
        Some(Evenness { least: parts.into_iter().fold(f64::INFINITY, f64::min), index })
    }
}

/// What 99 % do not exceed.
fn tail(mut waits: Vec<Moment>) -> Moment {
    let at = (waits.len() * 99).div_ceil(100) - 1;
    *waits.select_nth_unstable(at).1
}

/// What each gets at most where `served` is shared evenly among those who want so much.
fn even_level(wanted: &[f64], served: f64) -> f64 {
    let mut wanted: Vec<f64> = wanted.to_vec();
    wanted.sort_unstable_by(f64::total_cmp);
    let mut left = served;
    for (at, want) in wanted.iter().enumerate() {
        let even = left / (wanted.len() - at) as f64;
        if *want >= even {
            return even;
        }
        left -= want;
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn who_wants_little_gets_it_and_the_rest_share_what_is_left() {
        // 2 and 3 are less than even parts of 17; 12 are left for two.
        assert!(close(even_level(&[20.0, 2.0, 3.0, 9.0], 17.0), 6.0));
        assert!(even_level(&[1.0, 2.0], 5.0).is_infinite(), "there is enough");
        let mut shares = Shares::new(4);
        for (tenant, (asked, served)) in [(20.0, 6.0), (2.0, 2.0), (3.0, 3.0), (9.0, 6.0)].into_iter().enumerate() {
            shares.asked(tenant, asked);
            shares.served(tenant, served, true);
        }
        let even = shares.evenness().unwrap();
        assert!(close(even.least, 1.0) && close(even.index, 1.0), "{even:?}");
        shares.asked(0, 1.0);
        shares.served(0, 3.0, true);
        shares.asked(1, 4.0);
        // 20 for all: 3, and 17 by three, of which the second got 2.
        let uneven = shares.evenness().unwrap();
        assert!(close(uneven.least, 2.0 / (17.0 / 3.0)) && uneven.index < 0.9, "{uneven:?}");
    }

    #[test]
    fn what_was_served_before_is_asked_for_no_more() {
        let mut shares = Shares::new(2);
        shares.asked(0, 10.0);
        shares.served(0, 10.0, false);
        shares.asked(1, 5.0);
        shares.served(1, 5.0, true);
        assert_eq!(shares.evenness(), Some(Evenness { least: 1.0, index: 1.0 }));
        assert_eq!(Shares::new(3).evenness(), None);
    }

    #[test]
    fn the_worst_tenants_tail_is_told_by_the_median_ones() {
        let mut shares = Shares::new(4);
        for wait in 1..=200 {
            shares.waited(0, wait);
            shares.waited(1, 2 * wait);
            shares.waited(2, 5 * wait);
        }
        // Of few requests nothing is said.
        shares.waited(3, 1_000_000);
        assert_eq!(shares.worst_wait(), Some(2.5));
        assert_eq!(Shares::new(2).worst_wait(), None);
    }
}
