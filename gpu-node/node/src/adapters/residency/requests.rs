//! A request's way through the books: it asks, enters, waits, and is granted, refused or cancelled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_protocol::Digest;

use super::room::Room;
use super::{Granted, Residency};
use crate::adapters::entry::{AdapterEntry, EntryId, Holder, State};
use crate::adapters::error::{AdapterError, Tier, as_ms};
use crate::adapters::waiting::{Overtakes, Purpose, RequestId};

impl Residency {
    /// A request for so many adapters comes. It ends when it is granted or [cancelled](Self::cancel).
    pub(in crate::adapters) fn ask(&mut self, num_adapters: usize, holder: &Holder, now: Instant) -> RequestId {
        self.waiting.ask(num_adapters, holder, now)
    }

    /// The request's adapters, once all of them are on the device. `None`: look again after the next change, or when
    /// the request has waited for too long.
    ///
    /// # Errors
    /// Why the request is refused. It is to be cancelled then.
    pub(in crate::adapters) fn poll(
        &mut self,
        request: RequestId,
        digests: &[Digest],
        now: Instant,
    ) -> Result<Option<Vec<Granted>>, AdapterError> {
        let has_entered = !self.waiting.adapters(request).is_empty() || self.enter(request, digests, now)?;
        let all = self.waiting.adapters(request).to_vec();
        if has_entered && let Some(granted) = self.grant(request, &all, now)? {
            self.waiting.leave(request);
            self.news.changed = true;
            return Ok(Some(granted));
        }
        if !self.waiting.is_late(request, now) {
            return Ok(None);
        }
        let waited = self.waiting.waited(request, now);
        Err(if has_entered { self.why_waiting(&all, waited) } else { self.why_outside(digests, waited) })
    }

    /// Joins all adapters of the request, unless others come before it.
    fn enter(&mut self, request: RequestId, digests: &[Digest], now: Instant) -> Result<bool, AdapterError> {
        let holder = self.waiting.holder(request);
        let known = digests.iter().filter_map(|digest| self.room.by_digest.get(digest).copied()).collect();
        self.check_fit_together(&known)?;
        if !self.may_begin(request, &holder, &known) || !self.waiting.enter(request, self.overtakes(digests, &holder)) {
            return Ok(false);
        }
        self.news.changed = true;
        for digest in digests {
            self.join(request, &holder, digest, now)?;
        }
        self.admit(now);
        Ok(true)
    }

    /// Whether a request may begin to use what is in memory of its adapters: that is taken into use at once, and not in
    /// a queue for room. Of one for several, what is on the device is looked at once it [holds](Self::hold) them.
    fn may_begin(&mut self, request: RequestId, holder: &Holder, known: &BTreeSet<EntryId>) -> bool {
        let holds = self.waiting.holds(request);
        let may_use = |tier| self.room.may_use(tier, holder, known);
        let may_begin = may_use(Tier::Host) && (!holds || may_use(Tier::Device));
        let mut wanted_pages = 0;
        if let Some(id) = known.first().filter(|_| may_begin && holds) {
            wanted_pages = self.room.wanted_beside(holder, *id);
            if wanted_pages > 0 && self.room.entry(*id).is_evictable(Tier::Device) {
                // It comes back when it is its turn and there is room beside it, for which the queue asks.
                self.room.evict(Tier::Device, *id);
                wanted_pages = 0;
            }
        }
        // What others use stays where it is, and the request outside.
        self.waiting.want_beside(request, wanted_pages);
        self.ask_for_those_outside();
        may_begin && wanted_pages == 0
    }

    /// In which tiers the adapters are, and so will be in use; those of the reserve keep nobody waiting.
    fn overtakes(&self, digests: &[Digest], holder: &Holder) -> Overtakes {
        let mut overtakes = Overtakes::default();
        for entry in digests.iter().filter_map(|digest| self.entry_of(digest)) {
            let takes = |tier| !self.room.is_in_reserve(tier, holder, entry);
            overtakes.host |= entry.is_in_memory() && takes(Tier::Host);
            overtakes.device |= entry.is_in(Tier::Device) && takes(Tier::Device);
        }
        overtakes
    }

    /// Adds a user to the adapter's entry, or makes one.
    fn join(&mut self, request: RequestId, holder: &Holder, digest: &Digest, now: Instant) -> Result<(), AdapterError> {
        if self.is_taken_down(digest) {
            return Err(AdapterError::TakenDown);
        }
        let id = match self.room.by_digest.get(digest).copied() {
            Some(id) => {
                self.count_request(id, now);
                id
            }
            None => {
                self.failures.check(digest, now)?;
                self.room.totals.misses += 1;
                self.insert(*digest, Purpose::Request, holder, now)
            }
        };
        let holds = self.waiting.holds(request);
        let entry = self.room.entry(id);
        entry.add_user(holder, holds);
        entry.last_used = now;
        if holds && matches!(entry.state, State::Host(_)) {
            self.waiting.queue(Tier::Device, id);
        }
        self.waiting.join(request, id);
        Ok(())
    }

    fn count_request(&mut self, id: EntryId, now: Instant) {
        let Room { limits, entries, totals, .. } = &mut self.room;
        let Some(entry) = entries.get_mut(&id) else { return };
        let was_prefetched = std::mem::take(&mut entry.is_prefetched);
        if !was_prefetched {
            // The first request for a prefetched adapter was counted when it was made.
            entry.popularity.count_use(now, limits.popularity_half_life);
        }
        totals.prefetch_hits += u64::from(was_prefetched);
        *match entry.state {
            State::Device(_) => &mut totals.device_hits,
            State::Host(_) => &mut totals.host_hits,
            _ => &mut totals.misses,
        } += 1;
    }

    /// The adapters of a request that has entered, if all of them are on the device.
    fn grant(
        &mut self,
        request: RequestId,
        all: &[EntryId],
        now: Instant,
    ) -> Result<Option<Vec<Granted>>, AdapterError> {
        if let Some(refusal) = all.iter().find_map(|id| self.room.entry(*id).refusal.clone()) {
            return Err(refusal);
        }
        self.check_fit_together(&all.iter().copied().collect())?;
        let entries = &self.room.entries;
        if self.waiting.hold(request, |id| entries.get(&id).is_some_and(AdapterEntry::is_in_memory)) {
            self.hold(&self.waiting.holder(request), all);
            self.admit(now);
        }
        let granted = all.iter().map(|id| match &self.room.entry(*id).state {
            State::Device(resident) => Some((*id, Arc::clone(&resident.on_device))),
            _ => None,
        });
        Ok(granted.collect())
    }

    /// All adapters of a request for several are to be kept on the device. Those that are there wait for room too, unless
    /// there is room beside them.
    fn hold(&mut self, holder: &Holder, all: &[EntryId]) {
        for id in all {
            let may_use = |room: &Room| {
                room.may_use(Tier::Device, holder, &BTreeSet::from([*id])) && room.wanted_beside(holder, *id) == 0
            };
            if self.room.entry(*id).is_evictable(Tier::Device) && !may_use(&self.room) {
                self.room.evict(Tier::Device, *id);
            }
            self.room.entry(*id).hold(holder);
            self.waiting.queue(Tier::Device, *id);
        }
    }

    /// Refuses the adapters of one request, as far as their sizes are known, if they can never be on the device at
    /// once.
    fn check_fit_together(&self, distinct: &BTreeSet<EntryId>) -> Result<(), AdapterError> {
        let needed_bytes = distinct.iter().filter_map(|id| self.room.entries.get(id)).map(|entry| entry.bytes).sum();
        let budget_bytes = self.room.most_of_one(Tier::Device, needed_bytes);
        if distinct.len() > 1 && needed_bytes > budget_bytes {
            return Err(AdapterError::TogetherTooLarge { needed_bytes, budget_bytes });
        }
        Ok(())
    }

    /// Ends a request that has not been granted. Of one that has, there is nothing left.
    pub(in crate::adapters) fn cancel(&mut self, request: RequestId, now: Instant) {
        let Some(left) = self.waiting.leave(request) else { return };
        self.news.changed = true;
        for id in left.adapters {
            self.remove_user(id, &left.holder, left.held, now);
        }
        self.ask_for_those_outside();
    }

    /// Ends the use of an adapter that was granted.
    pub(in crate::adapters) fn release(&mut self, id: EntryId, holder: &Holder, now: Instant) {
        self.remove_user(id, holder, true, now);
    }

    fn remove_user(&mut self, id: EntryId, holder: &Holder, held: bool, now: Instant) {
        let entry = self.room.entry(id);
        entry.remove_user(holder, held);
        entry.last_used = now;
        let (users, holds) = (entry.users, entry.holds);
        if holds == 0 {
            self.waiting.withdraw(Tier::Device, id);
        }
        if users == 0 {
            // Should its load be waiting for memory, it is not worth that any more; see `reserve`.
            self.waiting.withdraw(Tier::Host, id);
            self.drop_if_done(id);
        }
        // Also where others use it on: its holder has less than before.
        self.look_again(now);
    }

    /// What a wait that lasted too long was for.
    pub(super) fn why_waiting(&self, all: &[EntryId], waited: Duration) -> AdapterError {
        let entries = || all.iter().filter_map(|id| self.room.entries.get(id));
        let unready = entries().find(|entry| !entry.is_in_memory());
        match unready.or_else(|| entries().find(|entry| !entry.is_in(Tier::Device))) {
            Some(AdapterEntry { state: State::Host(_), bytes, .. }) => self.room.no_room(Tier::Device, *bytes, waited),
            Some(AdapterEntry { state: State::WaitsForMemory(bytes), .. }) => {
                self.room.no_room(Tier::Host, *bytes, waited)
            }
            _ => AdapterError::LoadTimeout { waited_ms: as_ms(waited) },
        }
    }

    /// The same for a request that was not let in before others that wait.
    fn why_outside(&self, digests: &[Digest], waited: Duration) -> AdapterError {
        match digests.iter().filter_map(|digest| self.entry_of(digest)).map(|entry| entry.bytes).max() {
            Some(bytes) => self.room.no_room(Tier::Device, bytes, waited),
            None => AdapterError::LoadTimeout { waited_ms: as_ms(waited) },
        }
    }
}
