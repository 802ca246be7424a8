//! Who goes so that another may come: room in the tiers, and give and take with the KV side of the device's memory.

use std::sync::Arc;
use std::time::Instant;

use souk_engine::memory::{PAGE_BYTES, Side, pages_for};

use super::{EntryId, Residency, State, Tier};
use crate::adapters::entry::Resident;

/// An adapter that is less popular than this gives way to one that is only expected: half a request, which is what one
/// that was used once is worth after a half-life.
const WORTH_KEEPING: f64 = 0.5;

/// For whom room is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guest {
    /// Requests that wait.
    Requested,
    /// One that is expected: it displaces only what is below [`WORTH_KEEPING`], and asks nobody for room.
    Expected,
}

/// An idle adapter and what its eviction costs and frees.
struct Candidate {
    value: f64,
    id: EntryId,
    bytes: usize,
}

impl Residency {
    /// Serves both lines as far as there is room, and the request that gathers several adapters. Nobody in a line is
    /// overtaken by others in it, so a large adapter comes to its turn although small ones would fit all the time.
    pub(super) fn admit(&mut self, now: Instant) {
        if self.admit_to_device(now) {
            // Nobody waits for pages, so none are kept from the KV side.
            self.ask_for(0);
        }
        while let Some(id) = self.host_line.first() {
            if !self.admit_to_host(id, now) {
                break;
            }
            self.host_line.first_leaves();
            self.moved.notify_waiters();
        }
        for id in self.gathering.clone() {
            if self.waits_for_host(id).is_some() && self.admit_to_host(id, now) {
                self.host_line.leave(id);
                self.moved.notify_waiters();
            }
        }
    }

    /// Serves those that wait for the device; false if one of them does not fit yet.
    fn admit_to_device(&mut self, now: Instant) -> bool {
        while let Some(id) = self.device_line.first() {
            if let Some(bytes) = self.waits_for_device(id)
                && !self.move_to_device(id, bytes, Guest::Requested, now)
            {
                break;
            }
            self.device_line.first_leaves();
            self.moved.notify_waiters();
            self.leaves_device_line(id);
        }
        for id in self.gathering.clone() {
            if let Some(bytes) = self.waits_for_device(id)
                && self.move_to_device(id, bytes, Guest::Requested, now)
            {
                self.device_line.leave(id);
                self.moved.notify_waiters();
                self.leaves_device_line(id);
            }
        }
        self.device_line.first().is_none()
    }

    /// Gives a load its memory; false if it waits for that and there is none.
    fn admit_to_host(&mut self, id: EntryId, now: Instant) -> bool {
        let Some(bytes) = self.waits_for_host(id) else { return true };
        let has_room = self.make_room(Tier::Host, bytes, Guest::Requested, now);
        if has_room {
            self.grant(id, bytes);
        }
        has_room
    }

    /// The size of a load that waits for host memory.
    fn waits_for_host(&self, id: EntryId) -> Option<usize> {
        match self.entries.get(&id)?.state {
            State::WaitsForMemory(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The size of a packed adapter that waits for the device, for somebody who still wants it.
    fn waits_for_device(&self, id: EntryId) -> Option<usize> {
        let entry = self.entries.get(&id)?;
        let waits = entry.queued_for_device && entry.users > 0 && matches!(entry.state, State::Host(_));
        waits.then_some(entry.bytes)
    }

    fn leaves_device_line(&mut self, id: EntryId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.queued_for_device = false;
        }
    }

    /// Gives host memory to a load.
    pub(super) fn grant(&mut self, id: EntryId, bytes: usize) {
        self.totals.host_bytes += bytes;
        let entry = self.entry(id);
        entry.bytes = bytes;
        entry.state = State::Reserved;
        entry.flight.changed.notify_waiters();
    }

    /// Makes room on the device and moves a packed adapter there, if that is possible now.
    pub(super) fn move_to_device(&mut self, id: EntryId, bytes: usize, guest: Guest, now: Instant) -> bool {
        while self.make_room(Tier::Device, bytes, guest, now) {
            if self.promote(id) {
                return true;
            }
            // The KV side took the pages between the two, which it cannot do for ever.
        }
        false
    }

    /// Evicts the least valuable adapters until `bytes` fit. Evicts none if that would not be enough; should only pages be
    /// missing then, the KV side is asked for them.
    pub(super) fn make_room(&mut self, tier: Tier, bytes: usize, guest: Guest, now: Instant) -> bool {
        let (used, budget) = match tier {
            Tier::Host => (self.totals.host_bytes, self.limits.host_bytes),
            Tier::Device => (self.totals.device_bytes, self.limits.device_bytes),
        };
        let mut missing_bytes = (used + bytes).saturating_sub(budget);
        let mut missing_pages = match (&self.memory, tier) {
            (Some(memory), Tier::Device) => pages_for(bytes).saturating_sub(memory.available(Side::Adapters)),
            _ => 0,
        };
        if missing_bytes == 0 && missing_pages == 0 {
            return true;
        }
        let candidates = self.candidates(tier, guest, now);
        let (idle_bytes, idle_pages) =
            candidates.iter().fold((0, 0), |(bytes, pages), one| (bytes + one.bytes, pages + pages_for(one.bytes)));
        if idle_bytes < missing_bytes {
            return false;
        }
        if idle_pages < missing_pages {
            if guest == Guest::Requested {
                // Once so many are there, evicting the idle ones makes up the rest.
                self.ask_for(pages_for(bytes) - idle_pages);
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

    /// Gives up idle adapters for what the KV side is short of, the least valuable first.
    pub(super) fn give_way(&mut self, now: Instant) {
        let mut owed = self.memory.as_ref().map_or(0, |memory| memory.owes(Side::Adapters));
        if owed == 0 {
            return;
        }
        for one in self.candidates(Tier::Device, Guest::Requested, now) {
            if owed == 0 {
                break;
            }
            self.evict(Tier::Device, one.id);
            owed = owed.saturating_sub(pages_for(one.bytes));
        }
    }

    /// What may be evicted for the guest, the least valuable first.
    fn candidates(&self, tier: Tier, guest: Guest, now: Instant) -> Vec<Candidate> {
        let half_life = self.limits.popularity_half_life;
        let evictable = self.entries.iter().filter(|(_, entry)| entry.is_evictable(tier));
        let evictable = evictable
            .filter(|(_, entry)| guest == Guest::Requested || entry.popularity.at(now, half_life) < WORTH_KEEPING);
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

    /// Moves a packed adapter to the device. False if its pages are not there.
    fn promote(&mut self, id: EntryId) -> bool {
        let entry = self.entries.get_mut(&id).expect("who is promoted is on the books");
        let State::Host(packed) = &entry.state else { return true };
        if self.memory.as_ref().is_some_and(|memory| !memory.take(Side::Adapters, pages_for(entry.bytes))) {
            return false;
        }
        entry.state = State::Device(Resident::new(Arc::clone(packed)));
        entry.flight.changed.notify_waiters();
        self.totals.device_bytes += entry.bytes;
        true
    }

    pub(super) fn demote(&mut self, id: EntryId) {
        let entry = self.entry(id);
        if let State::Device(resident) = &entry.state {
            entry.state = State::Host(Arc::clone(&resident.packed));
            let bytes = entry.bytes;
            self.totals.device_bytes -= bytes;
            if let Some(memory) = &self.memory {
                memory.give_back(Side::Adapters, pages_for(bytes));
            }
        }
    }

    /// The most bytes that adapters on the device can ever have.
    pub(super) fn most_device_bytes(&self) -> usize {
        let pool = self.memory.as_ref().map_or(usize::MAX, |memory| memory.most(Side::Adapters) * PAGE_BYTES);
        self.limits.device_bytes.min(pool)
    }

    /// What the adapters on the device can have as long as the KV side keeps what it has.
    pub(super) fn device_bytes_now(&self) -> usize {
        let pool = self
            .memory
            .as_ref()
            .map_or(usize::MAX, |memory| (memory.used(Side::Adapters) + memory.available(Side::Adapters)) * PAGE_BYTES);
        self.limits.device_bytes.min(pool)
    }

    /// Tells the pool how many pages are missing, if that has changed.
    fn ask_for(&self, pages: usize) {
        if let Some(memory) = &self.memory
            && memory.wanted(Side::Adapters) != pages
        {
            memory.ask(Side::Adapters, pages);
        }
    }
}

impl Drop for Residency {
    fn drop(&mut self) {
        // The pool may outlive the store.
        let on_device: Vec<_> = self.entries.keys().copied().collect();
        on_device.into_iter().for_each(|id| self.demote(id));
        self.ask_for(0);
    }
}
