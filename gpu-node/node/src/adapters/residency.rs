//! The bookkeeping of the tiers: who is where, and who goes. No I/O and no clock of its own: `now` comes in. Who waits
//! behind whom is [`Waiting`]'s to say.
//!
//! The tiers are inclusive: an adapter on the device is in host memory too, and a device copy can be dropped and made
//! again from there. What is on the device takes pages of the pool that it shares with K and V.

mod ahead;
mod requests;
mod room;
mod shares;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_engine::device_memory::DeviceMemory;
use souk_models::adapter::PackedAdapter;
use souk_protocol::Digest;
use souk_protocol::gate::Cause;
use souk_runner::DeviceAdapter;

use self::room::Room;
use self::shares::InUse;
use super::entry::{AdapterEntry, EntryId, Holder, Popularity, Reload, State};
use super::error::{AdapterError, Tier, as_ms};
use super::failures::{Failures, TakenDown};
use super::limits::AdapterLimits;
use super::stats::{AdapterStats, AdapterTotals, ResidentAdapter};
use super::waiting::{Purpose, Turn, Waiting};

/// An adapter on the device, and the entry whose user the caller is until it [releases](Residency::release) it.
pub(super) type Granted = (EntryId, Arc<DeviceAdapter>);

/// A load that went well.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) adapter: Arc<PackedAdapter>,
    /// What it took, without the waiting for others and for room.
    pub(super) work_time: Duration,
    pub(super) was_on_disk: bool,
}

/// What the caller of the books has to do after a change.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Those that wait should look again.
    pub(super) changed: bool,
    /// Loads that are to be started, each of which ends with [`Residency::loaded`] or [`Residency::failed`].
    pub(super) loads: Vec<(EntryId, Digest)>,
}

#[derive(Debug)]
pub(super) struct Residency {
    waiting: Waiting,
    room: Room,
    /// What is in use of the host and of the device, and after how many changes it was counted.
    counted: [Option<(u64, Arc<InUse>)>; 2],
    /// How often that was.
    #[cfg(test)]
    num_counts: usize,
    failures: Failures,
    taken_down: TakenDown,
    news: News,
    next_id: u64,
}

impl Residency {
    pub(super) fn new(limits: AdapterLimits, memory: DeviceMemory) -> Self {
        Self {
            waiting: Waiting::new(&limits),
            room: Room::new(limits, memory),
            counted: [None, None],
            #[cfg(test)]
            num_counts: 0,
            failures: Failures::new(limits.first_retry_pause, limits.longest_retry_pause),
            taken_down: TakenDown::default(),
            news: News::default(),
            next_id: 0,
        }
    }

    /// What is to be done after the changes since the last call.
    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Prepares for a request that will come, as far as that takes nothing from others that are worth more.
    pub(super) fn prefetch(&mut self, digest: &Digest, now: Instant) {
        if self.is_taken_down(digest) {
            return;
        }
        if let Some(id) = self.room.by_digest.get(digest).copied() {
            let entry = self.room.entry(id);
            let is_idle = matches!(entry.state, State::Host(_)) && entry.users == 0;
            if is_idle && self.room.admit_to_device(id, Purpose::Prefetch, 0, now) {
                self.room.totals.prefetches += 1;
                self.room.entry(id).is_prefetched = true;
            }
        } else if self.waiting.has_prefetch_slot() && self.failures.check(digest, now).is_ok() {
            self.room.totals.prefetches += 1;
            self.insert(*digest, Purpose::Prefetch, &None, now);
        }
    }

    fn insert(&mut self, digest: Digest, purpose: Purpose, holder: &Holder, now: Instant) -> EntryId {
        let id = EntryId(self.next_id);
        self.next_id += 1;
        let entry = AdapterEntry {
            digest,
            state: State::Loading,
            users: 0,
            holds: 0,
            holders: HashMap::new(),
            refusal: None,
            is_prefetched: purpose == Purpose::Prefetch,
            bytes: 0,
            popularity: Popularity::new(now),
            last_used: now,
            reload: Reload::default(),
        };
        self.room.totals.loads += 1;
        self.room.entries.insert(id, entry);
        self.room.by_digest.insert(digest, id);
        self.waiting.begin_load(id, purpose, holder);
        self.news.loads.push((id, digest));
        id
    }

    /// Looks at who waits and at what the KV side is short of: something has changed.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.admit(now);
        self.room.give_way(now);
        self.news.changed = true;
    }

    /// Grants room to those that wait, as far as there is any.
    fn admit(&mut self, now: Instant) {
        let mut device = self.in_use(Tier::Device);
        while self.admit_one(&device, now) {
            device = self.in_use(Tier::Device);
        }
        while self.waiting.is_queued(Tier::Host) {
            let host = self.in_use(Tier::Host);
            if !self.admit_one(&host, now) {
                break;
            }
        }
        self.room.keep_the_reserve(&device);
        self.ask_for_pages();
    }

    /// What is in use of a tier. However many look after a change, it is counted once.
    fn in_use(&mut self, tier: Tier) -> Arc<InUse> {
        let num_changes = self.room.num_changes;
        let counted = match tier {
            Tier::Host => &mut self.counted[0],
            Tier::Device => &mut self.counted[1],
        };
        if let Some((at, in_use)) = counted
            && *at == num_changes
        {
            return Arc::clone(in_use);
        }
        #[cfg(test)]
        {
            self.num_counts += 1;
        }
        let in_use = Arc::new(self.room.in_use(tier));
        *counted = Some((num_changes, Arc::clone(&in_use)));
        in_use
    }

    /// Asks the KV side for what those lack who wait for the device, in the queue or outside: one in the queue may wait
    /// for its share and want no pages at all. Where nobody wants any, none are kept from the KV side.
    fn ask_for_pages(&self) {
        self.room.ask_for(self.room.queue_wish.max(self.waiting.wanted_beside()));
    }

    /// Grants room in a tier to the next whose turn it is, as far as there is any.
    fn admit_one(&mut self, in_use: &InUse, now: Instant) -> bool {
        let Self { waiting, room, news, .. } = self;
        let tier = in_use.tier;
        if tier == Tier::Device {
            // Whoever lacks pages says so anew.
            room.queue_wish = 0;
        }
        if !waiting.is_queued(tier) {
            return false;
        }
        let holders = |id: EntryId| room.entries.get(&id).into_iter().flat_map(|entry| entry.holders_in(tier));
        let who: HashSet<Holder> = waiting.queued(tier).flat_map(holders).cloned().collect();
        let least = |id| holders(id).map(|holder| in_use.held(holder)).min().unwrap_or_default();
        let held: HashMap<EntryId, u64> = waiting.queued(tier).map(|id| (id, least(id))).collect();
        let mut left_out = None;
        let granted = waiting.admit(tier, &held, |id, turn| {
            left_out = None;
            let Some(bytes) = room.wanted_bytes(tier, id) else { return Ok(()) };
            let to_leave = room.may_have(in_use, id, bytes, &who, turn)?;
            left_out = Some((id, room.left_out(in_use, id, bytes, to_leave)));
            let purpose = if turn == Turn::Passing { Purpose::Passing } else { Purpose::Request };
            let has_room = match tier {
                Tier::Device => room.admit_to_device(id, purpose, to_leave, now),
                Tier::Host => room.admit_to_host(id, purpose, now),
            };
            if has_room { Ok(()) } else { Err(Cause::Full) }
        });
        news.changed |= granted;
        if let Some((id, holders)) = left_out.filter(|_| granted) {
            self.send_out(tier, id, &holders);
        }
        granted
    }

    /// Whether a load may begin. Asked again after each change.
    pub(super) fn may_load(&self, id: EntryId) -> bool {
        self.waiting.may_load(id)
    }

    /// Asks for memory for a load; asked again after each change, says whether it was granted. A load waits as long as
    /// a request waits for it.
    ///
    /// # Errors
    /// Why the load is to be broken off.
    pub(super) fn reserve(&mut self, id: EntryId, bytes: usize, now: Instant) -> Result<bool, AdapterError> {
        for tier in [Tier::Device, Tier::Host] {
            let budget_bytes = self.room.most_of_one(tier, bytes);
            if bytes > budget_bytes {
                return Err(AdapterError::TooLarge { needed_bytes: bytes, tier, budget_bytes });
            }
        }
        let entry = self.room.entry(id);
        if let Some(refusal) = &entry.refusal {
            return Err(refusal.clone());
        }
        if matches!(entry.state, State::Loading) {
            entry.state = State::WaitsForMemory(bytes);
        }
        if entry.users > 0 && matches!(entry.state, State::WaitsForMemory(_)) {
            self.waiting.queue(Tier::Host, id);
            self.admit(now);
        } else if !self.room.admit_to_host(id, Purpose::Prefetch, now) {
            // Nobody waits for it: should it be asked for later, it is loaded then.
            return Err(self.room.no_room(Tier::Host, bytes, Duration::ZERO));
        }
        Ok(matches!(self.room.entry(id).state, State::Reserved))
    }

    /// Ends a load well. The adapter has the size that was reserved. Returns whether it is wanted.
    pub(super) fn loaded(&mut self, id: EntryId, loaded: Loaded, now: Instant) -> bool {
        let Loaded { adapter, work_time, was_on_disk } = loaded;
        self.news.changed = true;
        self.waiting.end_load(id);
        let entry = self.room.entry(id);
        debug_assert_eq!(entry.bytes, adapter.size_bytes, "the packed size is known before packing");
        if entry.refusal.is_some() {
            self.abandon(id, now);
            return false;
        }
        let size_bytes = adapter.size_bytes;
        entry.state = State::Host(adapter);
        entry.reload = Reload { measured: work_time, was_on_disk, is_on_disk: was_on_disk };
        let (digest, is_held) = (entry.digest, entry.holds > 0);
        let is_prefetched = entry.is_prefetched;
        self.room.totals.load_time += work_time;
        if was_on_disk {
            self.room.disk_pace.measured(work_time, size_bytes);
        }
        self.failures.forget(&digest);
        if is_held {
            self.waiting.queue(Tier::Device, id);
        }
        self.admit(now);
        if is_prefetched {
            self.room.admit_to_device(id, Purpose::Prefetch, 0, now);
        }
        true
    }

    /// Ends a load badly: its requests get the reason, and nobody else. Returns whether anything is amiss: what nobody
    /// waits for and finds no room has not failed.
    pub(super) fn failed(&mut self, id: EntryId, error: AdapterError, now: Instant) -> bool {
        self.news.changed = true;
        self.waiting.end_load(id);
        let entry = self.room.entry(id);
        let (digest, is_failure) = (entry.digest, entry.users > 0 || error.calls_for_pause());
        self.room.totals.load_failures += u64::from(is_failure);
        if error.calls_for_pause() {
            self.failures.remember(digest, error.clone(), now);
        }
        self.refuse(id, error);
        self.abandon(id, now);
        is_failure
    }

    /// Notes that the adapter can be read from disk from now on.
    pub(super) fn kept_on_disk(&mut self, digest: &Digest) {
        if let Some(id) = self.room.by_digest.get(digest).copied() {
            self.room.entry(id).reload.is_on_disk = true;
        }
    }

    /// Refuses the adapter from now on. Leases that exist stay good until they end; those that wait are refused.
    /// Returns whether it was there.
    pub(super) fn take_down(&mut self, digest: &Digest, now: Instant) -> bool {
        self.taken_down.insert(*digest);
        self.news.changed = true;
        let Some(id) = self.room.by_digest.get(digest).copied() else { return false };
        self.refuse(id, AdapterError::TakenDown);
        self.drop_if_done(id);
        self.admit(now);
        true
    }

    pub(super) fn is_taken_down(&self, digest: &Digest) -> bool {
        self.taken_down.contains(digest)
    }

    /// Makes an entry unknown to new requests and says why it will not come.
    fn refuse(&mut self, id: EntryId, error: AdapterError) {
        self.waiting.withdraw(Tier::Host, id);
        self.waiting.withdraw(Tier::Device, id);
        let entry = self.room.entry(id);
        // Only the first reason counts: a load that fails after a take-down was taken down.
        entry.refusal.get_or_insert(error);
        let digest = entry.digest;
        if self.room.by_digest.get(&digest) == Some(&id) {
            self.room.by_digest.remove(&digest);
        }
    }

    /// Ends the load of a refused entry and gives its memory back.
    fn abandon(&mut self, id: EntryId, now: Instant) {
        let entry = self.room.entry(id);
        entry.state = State::Failed;
        let bytes = std::mem::take(&mut entry.bytes);
        self.room.totals.host_bytes -= bytes;
        self.drop_if_done(id);
        self.admit(now);
    }

    /// Removes a refused entry that nobody uses and no load works on.
    fn drop_if_done(&mut self, id: EntryId) {
        let entry = self.room.entry(id);
        if entry.refusal.is_some() && entry.users == 0 && !entry.is_loading() {
            self.room.remove(id);
        }
    }

    pub(super) fn stats(&self, now: Instant) -> AdapterStats {
        let resident = self.room.entries.values().filter_map(|entry| {
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
        AdapterStats { resident, totals: self.totals(), disk: None }
    }

    pub(super) fn totals(&self) -> AdapterTotals {
        AdapterTotals {
            host_in_use_bytes: self.room.in_use_bytes(Tier::Host),
            device_in_use_bytes: self.room.in_use_bytes(Tier::Device),
            running_loads: self.waiting.num_loads(),
            ..self.room.totals
        }
    }

    /// Whether an adapter waits for room in a tier.
    #[cfg(test)]
    pub(super) fn somebody_waits(&self) -> bool {
        self.waiting.is_queued(Tier::Host) || self.waiting.is_queued(Tier::Device)
    }

    fn entry_of(&self, digest: &Digest) -> Option<&AdapterEntry> {
        self.room.entries.get(self.room.by_digest.get(digest)?)
    }
}

#[cfg(test)]
mod tests;
