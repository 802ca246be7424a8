//! What the tiers hold: their bytes, who goes so that another may come, and give and take with the KV side of the
//! device's memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_engine::device_memory::{DeviceMemory, PAGE_BYTES, Side, pages_for};
use souk_protocol::Digest;

use super::super::entry::{AdapterEntry, DiskPace, EntryId, Resident, State};
use super::super::error::{AdapterError, Tier, as_ms};
use super::super::limits::AdapterLimits;
use super::super::stats::AdapterTotals;
use super::super::waiting::Purpose;

/// An adapter that is less popular than this gives way to a prefetch: half a request, which is what one that was used
/// once is worth after a half-life.
const WORTH_KEEPING: f64 = 0.5;

/// The tiers and who is in them. Entries live by id rather than digest, since after a take-down an old one may still be
/// in use while a new one of the same digest is loaded.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) limits: AdapterLimits,
    /// The pool that the device tier shares with K and V.
    pub(super) memory: DeviceMemory,
    pub(super) entries: HashMap<EntryId, AdapterEntry>,
    pub(super) by_digest: HashMap<Digest, EntryId>,
    pub(super) totals: AdapterTotals,
    pub(super) disk_pace: DiskPace,
    /// Pages that the KV side would have to leave for an adapter that waits for the device, as of the last look at the
    /// queue.
    pub(super) queue_wish: usize,
    /// How often an entry has changed, or may have.
    pub(super) num_changes: u64,
}

/// An idle adapter and what its eviction costs and frees.
struct Candidate {
    value: f64,
    id: EntryId,
    bytes: usize,
}

impl Room {
    pub(super) fn new(limits: AdapterLimits, memory: DeviceMemory) -> Self {
        Self {
            limits,
            memory,
            entries: HashMap::new(),
            by_digest: HashMap::new(),
            totals: AdapterTotals::default(),
            disk_pace: DiskPace::default(),
            queue_wish: 0,
            num_changes: 0,
        }
    }

    /// An entry, to change it. Who only looks asks `entries`, so that what was counted stays good.
    pub(super) fn entry(&mut self, id: EntryId) -> &mut AdapterEntry {
        self.num_changes += 1;
        self.entries.get_mut(&id).expect("an entry stays while it has a user or a load works on it")
    }

    /// Takes host memory for a load, making room if need be; false if there is none. True if it waits for none.
    pub(super) fn admit_to_host(&mut self, id: EntryId, purpose: Purpose, now: Instant) -> bool {
        let State::WaitsForMemory(bytes) = self.entry(id).state else { return true };
        if purpose == Purpose::Prefetch && !self.has_room_ahead(bytes)
            || !self.make_room(Tier::Host, bytes, 0, purpose, now)
        {
            return false;
        }
        self.totals.host_bytes += bytes;
        let entry = self.entry(id);
        entry.bytes = bytes;
        entry.state = State::Reserved;
        true
    }

    /// Moves a packed adapter to the device, making room if need be, so that `to_leave` bytes are left beside it or idle;
    /// false if there is none. True if it is not one that could move.
    pub(super) fn admit_to_device(&mut self, id: EntryId, purpose: Purpose, to_leave: usize, now: Instant) -> bool {
        let entry = self.entry(id);
        if !matches!(entry.state, State::Host(_)) {
            return true;
        }
        let bytes = entry.bytes;
        while self.make_room(Tier::Device, bytes, to_leave, purpose, now) {
            if self.promote(id) {
                return true;
            }
            // The KV side took the pages between the two, which it cannot do for ever.
        }
        false
    }

    /// Bytes that an adapter which waits for a tier needs there; `None` if it waits no more.
    pub(super) fn wanted_bytes(&self, tier: Tier, id: EntryId) -> Option<usize> {
        let entry = self.entries.get(&id)?;
        match (tier, &entry.state) {
            (Tier::Host, State::WaitsForMemory(bytes)) => Some(*bytes),
            (Tier::Device, State::Host(_)) => Some(entry.bytes),
            _ => None,
        }
    }

    /// Evicts the least valuable adapters until `bytes` fit beside what they leave to others. Evicts none if that would
    /// not be enough; should only pages be missing then, it is noted that the KV side is to be asked for them.
    fn make_room(&mut self, tier: Tier, bytes: usize, to_leave: usize, purpose: Purpose, now: Instant) -> bool {
        let (used, budget) = match tier {
            Tier::Host => (self.totals.host_bytes, self.limits.host_bytes),
            Tier::Device => (self.totals.device_bytes, self.limits.device_bytes),
        };
        let mut missing_bytes = (used + bytes).saturating_sub(budget);
        let (mut missing_pages, wanted_pages) = match tier {
            Tier::Host => (0, 0),
            Tier::Device => {
                let missing = pages_for(bytes).saturating_sub(self.memory.available(Side::Adapters));
                (missing, pages_for(bytes) + pages_for(to_leave))
            }
        };
        if missing_bytes == 0 && missing_pages == 0 && self.pages_lacking(wanted_pages, 0) == 0 {
            return true;
        }
        let candidates = self.candidates(tier, purpose, now);
        let (idle_bytes, idle_pages) =
            candidates.iter().fold((0, 0), |(bytes, pages), one| (bytes + one.bytes, pages + pages_for(one.bytes)));
        if idle_bytes < missing_bytes {
            return false;
        }
        let lacking = self.pages_lacking(wanted_pages, idle_pages);
        if lacking > 0 {
            if purpose == Purpose::Request {
                // Once so many are there, evicting the idle ones makes up the rest.
                self.queue_wish = lacking;
            }
            return false;
        }
        for one in candidates {
            if missing_bytes == 0 && missing_pages == 0 {
                break;
            }
            self.evict(tier, one.id);
            missing_bytes = missing_bytes.saturating_sub(one.bytes);
            missing_pages = missing_pages.saturating_sub(pages_for(one.bytes));
        }
        true
    }

    /// Pages that have to be free so that `wanted` are there with those that `idle` ones would leave; 0 if they are.
    pub(super) fn pages_lacking(&self, wanted: usize, idle: usize) -> usize {
        let lacking = wanted.saturating_sub(idle);
        if lacking <= self.memory.available(Side::Adapters) { 0 } else { lacking }
    }

    /// Whether what nobody has asked for yet may take so much host memory for its load: not of the reserve.
    fn has_room_ahead(&self, bytes: usize) -> bool {
        let rules = self.rules(Tier::Host);
        (self.in_use_bytes(Tier::Host) + bytes) as u64 <= rules.total - rules.reserve
    }

    /// Gives up idle adapters for what the KV side is short of, the least valuable first.
    pub(super) fn give_way(&mut self, now: Instant) {
        let mut owed = self.memory.owes(Side::Adapters);
        if owed == 0 {
            return;
        }
        for one in self.candidates(Tier::Device, Purpose::Request, now) {
            if owed == 0 {
                break;
            }
            self.evict(Tier::Device, one.id);
            owed = owed.saturating_sub(pages_for(one.bytes));
        }
    }

    /// What may be evicted for this purpose, the least valuable first.
    fn candidates(&self, tier: Tier, purpose: Purpose, now: Instant) -> Vec<Candidate> {
        let half_life = self.limits.popularity_half_life;
        let evictable = self.entries.iter().filter(|(_, entry)| entry.is_evictable(tier));
        let evictable = evictable
            .filter(|(_, entry)| purpose != Purpose::Prefetch || entry.popularity.at(now, half_life) < WORTH_KEEPING);
        let mut candidates: Vec<_> = evictable
            .map(|(id, entry)| Candidate {
                value: entry.value(tier, self.disk_pace, now, half_life),
                id: *id,
                bytes: entry.bytes,
            })
            .collect();
        // Ids break ties, oldest first, so that what is evicted does not hang on a hash map's order.
        candidates.sort_by(|a, b| a.value.total_cmp(&b.value).then(a.id.cmp(&b.id)));
        candidates
    }

    pub(super) fn evict(&mut self, tier: Tier, id: EntryId) {
        match tier {
            Tier::Host => {
                self.totals.host_evictions += 1;
                self.remove(id);
            }
            Tier::Device => {
                self.totals.device_evictions += 1;
                self.demote(id);
            }
        }
    }

    /// Moves a packed adapter to the device. False if its pages are not there.
    fn promote(&mut self, id: EntryId) -> bool {
        self.num_changes += 1;
        let entry = self.entries.get_mut(&id).expect("who is promoted is on the books");
        let State::Host(packed) = &entry.state else { return true };
        if !self.memory.take(Side::Adapters, pages_for(entry.bytes)) {
            return false;
        }
        entry.state = State::Device(Resident::new(Arc::clone(packed)));
        self.totals.device_bytes += entry.bytes;
        true
    }

    fn demote(&mut self, id: EntryId) {
        let entry = self.entry(id);
        if let State::Device(resident) = &entry.state {
            entry.state = State::Host(Arc::clone(&resident.packed));
            let bytes = entry.bytes;
            self.totals.device_bytes -= bytes;
            self.memory.give_back(Side::Adapters, pages_for(bytes));
        }
    }

    /// Gives an entry's memory back and forgets it.
    pub(super) fn remove(&mut self, id: EntryId) {
        self.demote(id);
        self.num_changes += 1;
        if let Some(entry) = self.entries.remove(&id) {
            self.totals.host_bytes -= entry.bytes;
            if self.by_digest.get(&entry.digest) == Some(&id) {
                self.by_digest.remove(&entry.digest);
            }
        }
    }

    /// Why `needed_bytes` do not fit into a tier.
    pub(super) fn no_room(&self, tier: Tier, needed_bytes: usize, waited: Duration) -> AdapterError {
        let budget_bytes = match tier {
            Tier::Device => self.device_bytes_now(),
            Tier::Host => self.limits.host_bytes,
        };
        let in_use_bytes = self.in_use_bytes(tier);
        AdapterError::NoRoom { needed_bytes, tier, budget_bytes, in_use_bytes, waited_ms: as_ms(waited) }
    }

    /// The most bytes that adapters on the device can ever have.
    pub(super) fn most_device_bytes(&self) -> usize {
        self.limits.device_bytes.min(self.memory.most(Side::Adapters) * PAGE_BYTES)
    }

    /// What the adapters on the device can have as long as the KV side keeps what it has.
    fn device_bytes_now(&self) -> usize {
        let pages = self.memory.used(Side::Adapters) + self.memory.available(Side::Adapters);
        self.limits.device_bytes.min(pages * PAGE_BYTES)
    }

    /// Bytes of a tier that no other adapter can have.
    pub(super) fn in_use_bytes(&self, tier: Tier) -> usize {
        self.entries.values().filter(|entry| entry.is_in_use(tier)).map(|entry| entry.bytes).sum()
    }

    /// Tells the pool how many pages are missing, if that has changed.
    pub(super) fn ask_for(&self, pages: usize) {
        if self.memory.wanted(Side::Adapters) != pages {
            self.memory.ask(Side::Adapters, pages);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // The pool may outlive the store.
        let ids: Vec<_> = self.entries.keys().copied().collect();
        ids.into_iter().for_each(|id| self.demote(id));
        self.ask_for(0);
        self.memory.keep(Side::Adapters, 0);
    }
}
