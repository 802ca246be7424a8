//! The bookkeeping of the tiers: who is where, who waits, who goes. No I/O and no clock of its own: `now` comes in, and
//! those that wait are told through their [`Flight`].
//!
//! The tiers are inclusive: an adapter on the device is in host memory too, and a device copy can be dropped and made
//! again from there. What is on the device takes pages of the pool that it shares with K and V. Entries live by id rather
//! than digest, since after a take-down an old one may still be in use while a new one of the same digest is loaded.

mod line;
mod room;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_engine::memory::DeviceMemory;
use souk_models::adapter::PackedAdapter;
use souk_protocol::Digest;
use souk_runner::DeviceAdapter;
use tokio::sync::Notify;

use self::line::Line;
use self::room::Guest;
use super::entry::{DiskPace, Entry, EntryId, Flight, Popularity, Reload, State};
use super::error::{AdapterError, Tier, as_ms};
use super::failures::Failures;
use super::limits::AdapterLimits;
use super::stats::{AdapterStats, AdapterTotals, ResidentAdapter};

#[cfg(test)]
pub(super) use self::line::MOST_PASSES;

/// What [`Residency::join`] found.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) id: EntryId,
    pub(super) flight: Arc<Flight>,
    /// The caller is the first and must start a load.
    pub(super) must_load: bool,
}

/// A load that went well.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) adapter: Arc<PackedAdapter>,
    /// What it took, without the waiting for others and for room.
    pub(super) work_time: Duration,
    pub(super) was_on_disk: bool,
}

#[derive(Debug)]
pub(super) struct Residency {
    limits: AdapterLimits,
    /// The pool that the device tier shares with K and V; `None` bounds the tier by its own budget alone.
    memory: Option<DeviceMemory>,
    entries: HashMap<EntryId, Entry>,
    by_digest: HashMap<Digest, EntryId>,
    failures: Failures,
    totals: AdapterTotals,
    disk_pace: DiskPace,
    /// Loads under way that no request has asked for.
    num_expected: usize,
    /// Packed adapters with users that are not on the device yet.
    device_line: Line,
    /// Loads that wait for host memory.
    host_line: Line,
    /// Adapters of the one request that gathers several; it comes before the lines.
    gathering: Vec<EntryId>,
    /// Rung whenever a line has another first.
    pub(super) moved: Arc<Notify>,
    next_id: u64,
}

impl Residency {
    pub(super) fn new(limits: AdapterLimits, memory: Option<DeviceMemory>) -> Self {
        Self {
            limits,
            memory,
            entries: HashMap::new(),
            by_digest: HashMap::new(),
            failures: Failures::new(limits.first_retry_pause, limits.longest_retry_pause),
            totals: AdapterTotals::default(),
            disk_pace: DiskPace::default(),
            num_expected: 0,
            device_line: Line::default(),
            host_line: Line::default(),
            gathering: Vec::new(),
            moved: Arc::default(),
            next_id: 0,
        }
    }

    /// Adds a user. Each join is ended by one [`Self::release`].
    pub(super) fn join(&mut self, digest: &Digest, now: Instant) -> Result<Joined, AdapterError> {
        if let Some(&id) = self.by_digest.get(digest) {
            let half_life = self.limits.popularity_half_life;
            let entry = self.entry(id);
            entry.users += 1;
            let was_expected = std::mem::take(&mut entry.is_expected);
            if !was_expected {
                // The first request for an expected adapter has been counted.
                entry.popularity.count_use(now, half_life);
            }
            entry.last_used = now;
            entry.flight.requested.notify_one();
            let is_loading = entry.is_loading();
            let flight = Arc::clone(&entry.flight);
            let counter = match entry.state {
                State::Device(_) => &mut self.totals.device_hits,
                State::Host(_) => &mut self.totals.host_hits,
                _ => &mut self.totals.misses,
            };
            *counter += 1;
            self.totals.prefetch_hits += u64::from(was_expected);
            self.num_expected -= usize::from(was_expected && is_loading);
            return Ok(Joined { id, flight, must_load: false });
        }
        self.failures.check(digest, now)?;
        self.totals.misses += 1;
        Ok(self.insert(*digest, now, Guest::Requested))
    }

    /// Prepares for a request that will come. Whoever is told of a load must start it.
    pub(super) fn expect(&mut self, digest: &Digest, now: Instant) -> Option<Joined> {
        if let Some(&id) = self.by_digest.get(digest) {
            let entry = self.entry(id);
            let (bytes, is_packed) = (entry.bytes, matches!(entry.state, State::Host(_)));
            if is_packed && !entry.queued_for_device && self.move_to_device(id, bytes, Guest::Expected, now) {
                self.totals.prefetches += 1;
                self.entry(id).is_expected = true;
            }
            return None;
        }
        if self.num_expected >= self.limits.max_prefetches || self.failures.check(digest, now).is_err() {
            return None;
        }
        self.totals.prefetches += 1;
        self.num_expected += 1;
        Some(self.insert(*digest, now, Guest::Expected))
    }

    fn insert(&mut self, digest: Digest, now: Instant, guest: Guest) -> Joined {
        self.totals.loads += 1;
        let id = EntryId(self.next_id);
        self.next_id += 1;
        let flight = Arc::new(Flight::default());
        let entry = Entry {
            digest,
            flight: Arc::clone(&flight),
            state: State::Loading,
            users: usize::from(guest == Guest::Requested),
            is_expected: guest == Guest::Expected,
            detached: false,
            bytes: 0,
            queued_for_device: false,
            popularity: Popularity::new(now),
            last_used: now,
            reload: Reload::default(),
        };
        self.entries.insert(id, entry);
        self.by_digest.insert(digest, id);
        Joined { id, flight, must_load: true }
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
            State::Device(resident) => Ok(Some(Arc::clone(&resident.on_device))),
            _ => Ok(None),
        }
    }

    /// Refuses the adapters of one request, as far as their sizes are known, if they can never be on the device at once.
    pub(super) fn check_fit_together(&self, all: &[EntryId]) -> Result<(), AdapterError> {
        let distinct: BTreeSet<EntryId> = all.iter().copied().collect();
        let needed_bytes = distinct.iter().filter_map(|id| self.entries.get(id)).map(|entry| entry.bytes).sum();
        let budget_bytes = self.most_device_bytes();
        if distinct.len() > 1 && needed_bytes > budget_bytes {
            return Err(AdapterError::TogetherTooLarge { needed_bytes, budget_bytes });
        }
        Ok(())
    }

    /// Takes a user away.
    pub(super) fn release(&mut self, id: EntryId, now: Instant) {
        let entry = self.entry(id);
        entry.users -= 1;
        entry.last_used = now;
        if entry.users == 0 {
            self.drop_if_done(id);
            self.look_again(now);
        }
    }

    /// Looks at who waits and at what the KV side is short of: something has changed.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.admit(now);
        self.give_way(now);
    }

    /// Asks for memory for a load; asked again, says whether it was granted.
    pub(super) fn reserve(&mut self, id: EntryId, bytes: usize, now: Instant) -> Result<bool, AdapterError> {
        for (tier, budget_bytes) in [(Tier::Device, self.most_device_bytes()), (Tier::Host, self.limits.host_bytes)] {
            if bytes > budget_bytes {
                return Err(AdapterError::TooLarge { needed_bytes: bytes, tier, budget_bytes });
            }
        }
        let entry = self.entry(id);
        if entry.detached {
            return Err(AdapterError::TakenDown);
        }
        if entry.is_expected {
            // Not worth waiting for: should it be asked for later, it is loaded then.
            if !self.make_room(Tier::Host, bytes, Guest::Expected, now) {
                return Err(self.no_room(Tier::Host, bytes, Duration::ZERO));
            }
            self.grant(id, bytes);
            return Ok(true);
        }
        let entry = self.entry(id);
        if matches!(entry.state, State::Loading) {
            entry.state = State::WaitsForMemory(bytes);
            self.host_line.join(id);
            self.admit(now);
        }
        Ok(matches!(self.entry(id).state, State::Reserved))
    }

    /// Ends a load well. The adapter has the size that was reserved.
    pub(super) fn loaded(&mut self, id: EntryId, loaded: Loaded, now: Instant) {
        let Loaded { adapter, work_time, was_on_disk } = loaded;
        self.settle_expectation(id);
        let size_bytes = adapter.size_bytes;
        let entry = self.entry(id);
        debug_assert_eq!(entry.bytes, adapter.size_bytes, "the packed size is known before packing");
        if entry.detached {
            self.abandon(id, now);
            return;
        }
        entry.state = State::Host(adapter);
        entry.reload = Reload { measured: work_time, was_on_disk, is_on_disk: was_on_disk };
        let is_expected = entry.is_expected;
        let (digest, flight, users) = (entry.digest, Arc::clone(&entry.flight), entry.users);
        self.totals.load_time += work_time;
        if was_on_disk {
            self.disk_pace.measured(work_time, size_bytes);
        }
        self.failures.forget(&digest);
        if users > 0 {
            self.queue_for_device(id, now);
        } else {
            self.admit(now);
            if is_expected {
                self.move_to_device(id, size_bytes, Guest::Expected, now);
            }
        }
        flight.changed.notify_waiters();
    }

    /// Ends a load badly: its waiters get the reason, and nobody else.
    pub(super) fn failed(&mut self, id: EntryId, error: AdapterError, now: Instant) {
        self.settle_expectation(id);
        // What was only expected and found no room has not failed.
        self.totals.load_failures += u64::from(!self.entry(id).is_expected || error.calls_for_pause());
        let digest = self.entry(id).digest;
        if error.calls_for_pause() {
            self.failures.remember(digest, error.clone(), now);
        }
        self.detach(id, error);
        self.abandon(id, now);
    }

    /// Notes that the adapter can be read from disk from now on.
    pub(super) fn kept_on_disk(&mut self, digest: &Digest) {
        if let Some(id) = self.by_digest.get(digest) {
            let id = *id;
            self.entry(id).reload.is_on_disk = true;
        }
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
        match &self.entries[&id] {
            Entry { state: State::Host(_), bytes, .. } => self.no_room(Tier::Device, *bytes, waited),
            Entry { state: State::WaitsForMemory(bytes), .. } => self.no_room(Tier::Host, *bytes, waited),
            _ => AdapterError::LoadTimeout { waited_ms },
        }
    }

    /// The same for a request that was not let in before others that wait.
    pub(super) fn why_at_the_door(&self, digests: &[Digest], waited: Duration) -> AdapterError {
        let known = digests.iter().filter_map(|digest| self.entries.get(self.by_digest.get(digest)?));
        match known.map(|entry| entry.bytes).max() {
            Some(bytes) => self.no_room(Tier::Device, bytes, waited),
            None => AdapterError::LoadTimeout { waited_ms: as_ms(waited) },
        }
    }

    fn no_room(&self, tier: Tier, needed_bytes: usize, waited: Duration) -> AdapterError {
        let budget_bytes = match tier {
            Tier::Device => self.device_bytes_now(),
            Tier::Host => self.limits.host_bytes,
        };
        let waited_ms = as_ms(waited);
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
        AdapterStats { resident, totals: self.totals, disk: None }
    }

    pub(super) fn totals(&self) -> AdapterTotals {
        self.totals
    }

    fn queue_for_device(&mut self, id: EntryId, now: Instant) {
        let entry = self.entry(id);
        if !entry.queued_for_device {
            entry.queued_for_device = true;
            self.device_line.join(id);
        }
        self.admit(now);
    }

    /// A load under way has ended.
    fn settle_expectation(&mut self, id: EntryId) {
        let was_expected = self.entry(id).is_expected;
        self.num_expected -= usize::from(was_expected);
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
        if entry.detached && entry.users == 0 && !entry.is_loading() {
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
