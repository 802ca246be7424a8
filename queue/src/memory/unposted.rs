//! Settlements that somebody has yet to write down, and gateways that live.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use souk_protocol::{GatewayId, JobId};
use tokio::time::Instant;

use crate::port::WRITE_DOWN;
use crate::words::{Orphan, Settled, UNPOSTED_KEPT};

/// Most settlements that are given at once.
const MOST_AT_ONCE: usize = 256;

/// What is to be written down, oldest first, and by whom.
#[derive(Debug, Default)]
pub(super) struct Unposted {
    seen: HashMap<GatewayId, Instant>,
    next: u64,
    numbers: HashMap<JobId, u64>,
    settlements: BTreeMap<u64, Settlement>,
}

#[derive(Debug)]
struct Settlement {
    orphan: Orphan,
    owner: GatewayId,
    /// When it is given again, if its own gateway has left it.
    until: Option<Instant>,
}

impl Unposted {
    pub(super) fn heartbeat(&mut self, gateway: &GatewayId, now: Instant) {
        self.seen.insert(gateway.clone(), now);
    }

    /// Keeps what the job's own gateway is to write down.
    pub(super) fn keep(&mut self, owner: GatewayId, job: JobId, account: Bytes, settled: Settled) {
        self.numbers.insert(job.clone(), self.next);
        self.settlements.insert(self.next, Settlement { orphan: Orphan { job, account, settled }, owner, until: None });
        self.next += 1;
        if self.settlements.len() > UNPOSTED_KEPT
            && let Some((_, oldest)) = self.settlements.pop_first()
        {
            self.numbers.remove(&oldest.orphan.job);
        }
    }

    /// Whether this gateway is to write it down.
    pub(super) fn is_of(&self, job: &JobId, gateway: &GatewayId) -> bool {
        let number = self.numbers.get(job);
        number.and_then(|number| self.settlements.get(number)).is_some_and(|one| one.owner == *gateway)
    }

    /// Gives what lost gateways have left to this one; `None` if that is nothing.
    pub(super) fn adopt(&mut self, gateway: &GatewayId, silence: Duration, now: Instant) -> Option<Vec<Orphan>> {
        self.seen.retain(|_, seen| now.duration_since(*seen) < silence);
        let seen = &self.seen;
        let is_left = |one: &Settlement| match one.until {
            Some(until) if until <= now => true,
            _ => one.owner != *gateway && !seen.contains_key(&one.owner),
        };
        let left = self.settlements.values_mut().filter(|one| is_left(one)).take(MOST_AT_ONCE);
        let orphans: Vec<_> = left
            .map(|one| {
                (one.owner, one.until) = (gateway.clone(), Some(now + WRITE_DOWN));
                one.orphan.clone()
            })
            .collect();
        (!orphans.is_empty()).then_some(orphans)
    }

    pub(super) fn forget(&mut self, jobs: &[JobId]) {
        for job in jobs {
            if let Some(number) = self.numbers.remove(job) {
                self.settlements.remove(&number);
            }
        }
    }

    /// The next moment at which time alone leaves something to others.
    pub(super) fn next_change(&self, silence: Duration) -> impl Iterator<Item = Instant> {
        let lapses = self.seen.values().map(move |seen| *seen + silence);
        lapses.chain(self.settlements.values().filter_map(|one| one.until))
    }
}
