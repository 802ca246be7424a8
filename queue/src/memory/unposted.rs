//! Requests that somebody has yet to write down, and gateways that live.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use souk_protocol::{GatewayId, JobId, RequestId};
use tokio::time::Instant;

use crate::port::WRITE_DOWN;
use crate::words::{Orphan, OrphanJob, Settled, UNPOSTED_KEPT};

/// Most requests that are given at once.
const MOST_AT_ONCE: usize = 256;

/// What is to be written down, and by whom.
#[derive(Debug, Default)]
pub(super) struct Unposted {
    seen: HashMap<GatewayId, Instant>,
    requests: HashMap<RequestId, Request>,
    owners: HashMap<GatewayId, Owned>,
    /// Requests that are over, in the order in which they came to be.
    over: BTreeMap<u64, RequestId>,
    next: u64,
    /// Those that a gateway has from another, by when they are given again.
    adopted: BTreeSet<(Instant, RequestId)>,
}

/// A request whose jobs have an account.
#[derive(Debug)]
struct Request {
    owner: GatewayId,
    account: Bytes,
    /// By index; `None` while it is open.
    jobs: BTreeMap<u32, Option<OrphanJob>>,
    num_open: usize,
    /// Its place among those that are over.
    number: Option<u64>,
    /// When it is given again, if its own gateway has left it.
    until: Option<Instant>,
}

/// The requests of one gateway.
#[derive(Debug, Default)]
struct Owned {
    open: HashSet<RequestId>,
    over: BTreeSet<u64>,
}

impl Request {
    fn new(owner: &GatewayId, account: Bytes) -> Self {
        Self { owner: owner.clone(), account, jobs: BTreeMap::new(), num_open: 0, number: None, until: None }
    }
}

impl Unposted {
    pub(super) fn heartbeat(&mut self, gateway: &GatewayId, now: Instant) {
        self.seen.insert(gateway.clone(), now);
    }

    /// Whether a gateway has been silent for so long.
    pub(super) fn is_lost(&self, gateway: &GatewayId, silence: Duration, now: Instant) -> bool {
        self.seen.get(gateway).is_none_or(|seen| now.duration_since(*seen) >= silence)
    }

    /// A job of this gateway's is queued. Should others have been given the request, it is this one's again.
    pub(super) fn open(&mut self, owner: &GatewayId, job: &JobId, account: Bytes) {
        let id = &job.request;
        let request = self.requests.entry(id.clone()).or_insert_with(|| Request::new(owner, account));
        if request.jobs.insert(job.index, None) == Some(None) {
            return;
        }
        request.num_open += 1;
        let before = std::mem::replace(&mut request.owner, owner.clone());
        let (number, until) = (request.number.take(), request.until.take());
        if let Some(number) = number {
            self.over.remove(&number);
        }
        if let Some(until) = until {
            self.adopted.remove(&(until, id.clone()));
        }
        self.disown(&before, id, number);
        self.owners.entry(owner.clone()).or_default().open.insert(id.clone());
    }

    /// Keeps how a job ended. One of a request that is written down already is nobody's.
    pub(super) fn settle(&mut self, job: &JobId, settled: Settled, delivered_tokens: u32) {
        let Some(request) = self.requests.get_mut(&job.request) else { return };
        let ended = OrphanJob { index: job.index, settled, delivered_tokens };
        if request.jobs.insert(job.index, Some(ended)) != Some(None) {
            return;
        }
        request.num_open -= 1;
        if request.num_open > 0 {
            return;
        }
        let number = self.next;
        self.next += 1;
        request.number = Some(number);
        self.over.insert(number, job.request.clone());
        let owned = self.owners.entry(request.owner.clone()).or_default();
        owned.open.remove(&job.request);
        owned.over.insert(number);
        if self.over.len() > UNPOSTED_KEPT
            && let Some(oldest) = self.over.first_key_value().map(|(_, oldest)| oldest.clone())
        {
            self.forget(&oldest);
        }
    }

    /// The open jobs of gateways that are lost, but for this one.
    pub(super) fn left_open(&self, but: &GatewayId, silence: Duration, now: Instant) -> Vec<JobId> {
        let lost = self.owners.iter().filter(|(owner, _)| *owner != but && self.is_lost(owner, silence, now));
        let requests = lost.flat_map(|(_, owned)| &owned.open).filter_map(|id| Some((id, self.requests.get(id)?)));
        let jobs = requests.flat_map(|(id, request)| {
            let open = request.jobs.iter().filter(|(_, ended)| ended.is_none());
            open.map(|(index, _)| JobId { request: id.clone(), index: *index })
        });
        jobs.collect()
    }

    /// Gives what lost gateways have left to this one; `None` if that is nothing.
    pub(super) fn adopt(&mut self, gateway: &GatewayId, silence: Duration, now: Instant) -> Option<Vec<Orphan>> {
        self.seen.retain(|_, seen| now.duration_since(*seen) < silence);
        let again = self.adopted.iter().take_while(|(until, _)| *until <= now).map(|(_, request)| request);
        let lost = self.owners.iter().filter(|(owner, _)| *owner != gateway && !self.seen.contains_key(*owner));
        let left = lost.flat_map(|(_, owned)| &owned.over).filter_map(|number| self.over.get(number));
        let mut given: Vec<RequestId> = Vec::new();
        for request in again.chain(left) {
            if given.len() < MOST_AT_ONCE && !given.contains(request) {
                given.push(request.clone());
            }
        }
        let orphans: Vec<_> = given.into_iter().filter_map(|request| self.give(request, gateway, now)).collect();
        (!orphans.is_empty()).then_some(orphans)
    }

    fn give(&mut self, id: RequestId, to: &GatewayId, now: Instant) -> Option<Orphan> {
        let request = self.requests.get_mut(&id)?;
        let number = request.number?;
        if let Some(until) = request.until.replace(now + WRITE_DOWN) {
            self.adopted.remove(&(until, id.clone()));
        }
        self.adopted.insert((now + WRITE_DOWN, id.clone()));
        let before = std::mem::replace(&mut request.owner, to.clone());
        let (account, jobs) = (request.account.clone(), request.jobs.values().flatten().cloned().collect());
        self.disown(&before, &id, Some(number));
        self.owners.entry(to.clone()).or_default().over.insert(number);
        Some(Orphan { request: id, account, jobs })
    }

    pub(super) fn forget(&mut self, id: &RequestId) {
        let Some(request) = self.requests.remove(id) else { return };
        if let Some(number) = request.number {
            self.over.remove(&number);
        }
        if let Some(until) = request.until {
            self.adopted.remove(&(until, id.clone()));
        }
        self.disown(&request.owner, id, request.number);
    }

    /// Whether it is to be written down, now or when it is over.
    pub(super) fn has(&self, request: &RequestId) -> bool {
        self.requests.contains_key(request)
    }

    fn disown(&mut self, owner: &GatewayId, id: &RequestId, number: Option<u64>) {
        let Some(owned) = self.owners.get_mut(owner) else { return };
        owned.open.remove(id);
        if let Some(number) = number {
            owned.over.remove(&number);
        }
        if owned.open.is_empty() && owned.over.is_empty() {
            self.owners.remove(owner);
        }
    }

    /// The next moment at which time alone leaves something to others.
    pub(super) fn next_change(&self, silence: Duration) -> impl Iterator<Item = Instant> {
        let lapses = self.seen.values().map(move |seen| *seen + silence);
        lapses.chain(self.adopted.first().map(|(until, _)| *until))
    }
}
