//! The bookkeeping of the tiers: who is where, who waits, who goes. No I/O and no clock of its own: `now` comes in, and
//! those that wait are told through their [`Flight`].
//!
//! The tiers are inclusive: an adapter on the device is in host memory too, and a device copy can be dropped and made
//! again from there. Entries live by id rather than digest, since after a take-down an old one may still be in use
//! while a new one of the same digest is loaded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_protocol::Digest;

use super::device::DeviceAdapter;
use super::entry::{Entry, EntryId, Flight, Popularity, State};
use super::error::{AdapterError, Tier, as_ms};
use super::failures::Failures;
use super::limits::AdapterLimits;
use super::stats::{AdapterStats, AdapterTotals, ResidentAdapter};

/// What [`Residency::join`] found.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) id: EntryId,
    pub(super) flight: Arc<Flight>,
    /// The caller is the first and must start a load.
    pub(super) must_load: bool,
}

#[derive(Debug)]
pub(super) struct Residency {
    limits: AdapterLimits,
    entries: HashMap<EntryId, Entry>,
    by_digest: HashMap<Digest, EntryId>,
    failures: Failures,
    totals: AdapterTotals,
    /// Packed adapters with users that are not on the device yet, first come first served.
    device_queue: VecDeque<EntryId>,
    /// Loads that wait for host memory, first come first served.
    host_queue: VecDeque<EntryId>,
    next_id: u64,
}

impl Residency {
    pub(super) fn new(limits: AdapterLimits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            by_digest: HashMap::new(),
            failures: Failures::new(limits.first_retry_pause, limits.longest_retry_pause),
            totals: AdapterTotals::default(),
            device_queue: VecDeque::new(),
            host_queue: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Adds a user. Each join is ended by one [`Self::release`].
    pub(super) fn join(&mut self, digest: &Digest, now: Instant) -> Result<Joined, AdapterError> {
        if let Some(&id) = self.by_digest.get(digest) {
            let half_life = self.limits.popularity_half_life;
            let entry = self.entry(id);
            entry.users += 1;
            entry.popularity.count_use(now, half_life);
            entry.last_used = now;
            let flight = Arc::clone(&entry.flight);
            let counter = match entry.state {
                State::Device(_) => &mut self.totals.device_hits,
                State::Host(_) => &mut self.totals.host_hits,
                _ => &mut self.totals.misses,
            };
            *counter += 1;
            return Ok(Joined { id, flight, must_load: false });
        }
        self.failures.check(digest, now)?;
        self.totals.misses += 1;
        self.totals.loads += 1;
        let id = EntryId(self.next_id);
        self.next_id += 1;
        let flight = Arc::new(Flight::default());
        let entry = Entry {
            digest: *digest,
            flight: Arc::clone(&flight),
            state: State::Loading,
            users: 1,
            detached: false,
            bytes: 0,
            queued_for_device: false,
            popularity: Popularity::new(now),
            last_used: now,
            load_time: Duration::ZERO,
        };
        self.entries.insert(id, entry);
        self.by_digest.insert(*digest, id);
        Ok(Joined { id, flight, must_load: true })
    }

    /// The adapter, once it is on the device. `None`: wait for the flight.
    pub(super) fn poll(&mut self, id: EntryId, now: Instant) -> Result<Option<Arc<DeviceAdapter>>, AdapterError> {
        let entry = self.entry(id);
        if let Some(error) = entry.flight.outcome.get() {
            return Err(error.clone());
        }
        if matches!(entry.state, State::Host(_)) {
            self.queue_for_device(id, now);
        }
        match &self.entry(id).state {
            State::Device(adapter) => Ok(Some(Arc::clone(adapter))),
            _ => Ok(None),
        }
    }

    /// Takes a user away.
    pub(super) fn release(&mut self, id: EntryId, now: Instant) {
        let entry = self.entry(id);
        entry.users -= 1;
        entry.last_used = now;
        if entry.users == 0 {
            self.drop_if_done(id);
            self.admit(now);
        }
    }

    /// Asks for memory for a load; asked again, says whether it was granted.
    pub(super) fn reserve(&mut self, id: EntryId, bytes: usize, now: Instant) -> Result<bool, AdapterError> {
        for (tier, budget_bytes) in [(Tier::Device, self.limits.device_bytes), (Tier::Host, self.limits.host_bytes)] {
            if bytes > budget_bytes {
                return Err(AdapterError::TooLarge { needed_bytes: bytes, tier, budget_bytes });
            }
        }
        let entry = self.entry(id);
        if entry.detached {
            return Err(AdapterError::TakenDown);
        }
        if matches!(entry.state, State::Loading) {
            entry.state = State::WaitsForMemory(bytes);
            self.host_queue.push_back(id);
            self.admit(now);
        }
        Ok(matches!(self.entry(id).state, State::Reserved))
    }

    /// Ends a load well. The adapter has the size that was reserved.
    pub(super) fn loaded(&mut self, id: EntryId, adapter: Arc<DeviceAdapter>, load_time: Duration, now: Instant) {
        let entry = self.entry(id);
        debug_assert_eq!(entry.bytes, adapter.size_bytes, "the packed size is known before packing");
        if entry.detached {
            self.abandon(id, now);
            return;
        }
        entry.state = State::Host(adapter);
        entry.load_time = load_time;
        let (digest, flight, users) = (entry.digest, Arc::clone(&entry.flight), entry.users);
        self.totals.load_time += load_time;
        self.failures.forget(&digest);
        if users > 0 {
            self.queue_for_device(id, now);
        } else {
            self.admit(now);
        }
        flight.changed.notify_waiters();
    }

    /// Ends a load badly: its waiters get the reason, and nobody else.
    pub(super) fn failed(&mut self, id: EntryId, error: AdapterError, now: Instant) {
        self.totals.load_failures += 1;
        let digest = self.entry(id).digest;
        if error.calls_for_pause() {
            self.failures.remember(digest, error.clone(), now);
        }
        self.detach(id, error);
        self.abandon(id, now);
    }

    /// Makes the adapter unknown at once. Leases that exist stay good until they end; those that wait are refused.
    /// Returns whether it was there.
    pub(super) fn take_down(&mut self, digest: &Digest, now: Instant) -> bool {
        let Some(&id) = self.by_digest.get(digest) else { return false };
        self.detach(id, AdapterError::TakenDown);
        self.drop_if_done(id);
        self.admit(now);
        true
    }

    /// What a wait that lasted too long was for.
    pub(super) fn why_waiting(&self, id: EntryId, waited: Duration) -> AdapterError {
        let waited_ms = as_ms(waited);
        let (tier, needed_bytes, budget_bytes) = match &self.entries[&id] {
            Entry { state: State::Host(_), bytes, .. } => (Tier::Device, *bytes, self.limits.device_bytes),
            Entry { state: State::WaitsForMemory(bytes), .. } => (Tier::Host, *bytes, self.limits.host_bytes),
            _ => return AdapterError::LoadTimeout { waited_ms },
        };
        let in_use = self.entries.values().filter(|entry| entry.is_in(tier) && !entry.is_evictable(tier));
        let in_use_bytes = in_use.map(|entry| entry.bytes).sum();
        AdapterError::NoRoom { needed_bytes, tier, budget_bytes, in_use_bytes, waited_ms }
    }

    pub(super) fn stats(&self, now: Instant) -> AdapterStats {
        let resident = self.entries.values().filter_map(|entry| {
            let tier = match entry.state {
                State::Device(_) => Tier::Device,
                State::Host(_) => Tier::Host,
                _ => return None,
            };
            let idle_ms = as_ms(now.saturating_duration_since(entry.last_used));
            Some(ResidentAdapter { digest: entry.digest, size_bytes: entry.bytes, tier, users: entry.users, idle_ms })
        });
        let mut resident: Vec<_> = resident.collect();
        resident.sort_by_key(|adapter| adapter.digest);
        AdapterStats { resident, totals: self.totals }
    }

    pub(super) fn totals(&self) -> AdapterTotals {
        self.totals
    }

    fn queue_for_device(&mut self, id: EntryId, now: Instant) {
        let entry = self.entry(id);
        if !entry.queued_for_device {
            entry.queued_for_device = true;
            self.device_queue.push_back(id);
        }
        self.admit(now);
    }

    /// Serves both queues as far as there is room. The first in a queue is not overtaken, so a large adapter comes to
    /// its turn although small ones would fit all the time.
    fn admit(&mut self, now: Instant) {
        while let Some(&id) = self.device_queue.front() {
            let wanted = self.entries.get(&id).filter(|entry| entry.users > 0 && matches!(entry.state, State::Host(_)));
            if let Some(bytes) = wanted.map(|entry| entry.bytes) {
                if !self.make_room(Tier::Device, bytes, now) {
                    break;
                }
                self.promote(id);
            }
            self.device_queue.pop_front();
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.queued_for_device = false;
            }
        }
        while let Some(&id) = self.host_queue.front() {
            if let Some(Entry { state: State::WaitsForMemory(bytes), .. }) = self.entries.get(&id) {
                let bytes = *bytes;
                if !self.make_room(Tier::Host, bytes, now) {
                    break;
                }
                self.totals.host_bytes += bytes;
                let entry = self.entry(id);
                entry.bytes = bytes;
                entry.state = State::Reserved;
                entry.flight.changed.notify_waiters();
            }
            self.host_queue.pop_front();
        }
    }

    /// Evicts the least valuable adapters until `bytes` fit. Evicts none if that would not be enough.
    fn make_room(&mut self, tier: Tier, bytes: usize, now: Instant) -> bool {
        let (used, budget) = match tier {
            Tier::Host => (self.totals.host_bytes, self.limits.host_bytes),
            Tier::Device => (self.totals.device_bytes, self.limits.device_bytes),
        };
        let Some(mut missing) = (used + bytes).checked_sub(budget).filter(|missing| *missing > 0) else { return true };
        let half_life = self.limits.popularity_half_life;
        let evictable = self.entries.iter().filter(|(_, entry)| entry.is_evictable(tier));
        let mut candidates: Vec<_> =
            evictable.map(|(id, entry)| (entry.value(tier, now, half_life), *id, entry.bytes)).collect();
        if candidates.iter().map(|(.., bytes)| bytes).sum::<usize>() < missing {
            return false;
        }
        // Ids break ties, oldest first, so that what is evicted does not hang on a hash map's order.
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, id, bytes) in candidates {
            self.evict(tier, id);
            missing = missing.saturating_sub(bytes);
            if missing == 0 {
                break;
            }
        }
        true
    }

    fn evict(&mut self, tier: Tier, id: EntryId) {
        self.demote(id);
        if tier == Tier::Host {
            self.totals.host_evictions += 1;
            let digest = self.entry(id).digest;
            self.by_digest.remove(&digest);
            self.remove(id);
        } else {
            self.totals.device_evictions += 1;
        }
    }

    fn promote(&mut self, id: EntryId) {
        let entry = self.entry(id);
        if let State::Host(adapter) = &entry.state {
            entry.state = State::Device(Arc::clone(adapter));
            let bytes = entry.bytes;
            entry.flight.changed.notify_waiters();
            self.totals.device_bytes += bytes;
        }
    }

    fn demote(&mut self, id: EntryId) {
        let entry = self.entry(id);
        if let State::Device(adapter) = &entry.state {
            entry.state = State::Host(Arc::clone(adapter));
            let bytes = entry.bytes;
            self.totals.device_bytes -= bytes;
        }
    }

    /// Makes an entry unknown to new requests and tells those that wait why.
    fn detach(&mut self, id: EntryId, error: AdapterError) {
        let entry = self.entry(id);
        entry.detached = true;
        // Only the first reason counts: a load that fails after a take-down was taken down.
        let _ = entry.flight.outcome.set(error);
        entry.flight.changed.notify_waiters();
        let digest = entry.digest;
        if self.by_digest.get(&digest) == Some(&id) {
            self.by_digest.remove(&digest);
        }
    }

    /// Ends the load of a detached entry and gives its memory back.
    fn abandon(&mut self, id: EntryId, now: Instant) {
        let entry = self.entry(id);
        entry.state = State::Failed;
        let bytes = std::mem::take(&mut entry.bytes);
        self.totals.host_bytes -= bytes;
        self.drop_if_done(id);
        self.admit(now);
    }

    /// Removes a detached entry that nobody uses and no load works on.
    fn drop_if_done(&mut self, id: EntryId) {
        let entry = self.entry(id);
        let is_loading = matches!(entry.state, State::Loading | State::WaitsForMemory(_) | State::Reserved);
        if entry.detached && entry.users == 0 && !is_loading {
            self.demote(id);
            self.remove(id);
        }
    }

    fn remove(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.remove(&id) {
            self.totals.host_bytes -= entry.bytes;
        }
    }

    fn entry(&mut self, id: EntryId) -> &mut Entry {
        self.entries.get_mut(&id).expect("an entry stays while it has a user or a load works on it")
    }
}

#[cfg(test)]
mod tests;
