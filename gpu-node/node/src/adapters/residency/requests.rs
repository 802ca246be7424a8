//! A request's way through the books: it asks, enters, waits, and is granted, refused or cancelled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_protocol::Digest;

use super::room::Room;
use super::shares::InUse;
use super::{Granted, Residency};
use crate::adapters::entry::{AdapterEntry, EntryId, Holder, State};
use crate::adapters::error::{AdapterError, Tier, as_ms};
use crate::adapters::waiting::{Overtakes, Purpose, RequestId};

/// Whether a request may begin to use what is in memory of its adapters.
enum Begin {
    Enter,
    /// Its adapter leaves the device as it enters, and comes back when it is its turn and there is room beside it, for
    /// which the queue asks.
    EnterAfterEvicting(EntryId),
    /// Not yet; so many pages have to come free first, or 0 where it waits for what others use.
    Outside(usize),
}

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
        let in_use = [Tier::Host, Tier::Device].map(|tier| self.in_use(tier));
        let begin = self.may_begin(request, &holder, &known, &in_use);
        self.waiting.want_beside(request, if let Begin::Outside(pages) = begin { pages } else { 0 });
        self.ask_for_pages();
        let evicted = match begin {
            Begin::Enter => None,
            Begin::EnterAfterEvicting(id) => Some(id),
            Begin::Outside(_) => return Ok(false),
        };
        if !self.waiting.enter(request, self.overtakes(&known, &holder, evicted, &in_use)) {
            return Ok(false);
        }
        if let Some(id) = evicted {
            self.room.evict(Tier::Device, id);
        }
        self.news.changed = true;
        for digest in digests {
            self.join(request, &holder, digest, now)?;
        }
        self.admit(now);
        Ok(true)
    }

    /// Whether a request may begin to use what is in memory of its adapters: that is taken into use at once, and not in
    /// a queue for room. Of one for several, what is on the device is looked at once it [holds](Self::hold_all) them.
    fn may_begin(
        &self,
        request: RequestId,
        holder: &Holder,
        known: &BTreeSet<EntryId>,
        [host, device]: &[Arc<InUse>; 2],
    ) -> Begin {
        let holds = self.waiting.holds(request);
        let may_use = |in_use| self.room.may_use(in_use, holder, known);
        if !may_use(host) || holds && !may_use(device) {
            return Begin::Outside(0);
        }
        let Some(id) = known.first().copied().filter(|_| holds) else { return Begin::Enter };
        match self.room.wanted_beside(device, holder, known) {
            0 => Begin::Enter,
            _ if self.room.entries[&id].is_evictable(Tier::Device) => Begin::EnterAfterEvicting(id),
            // What others use stays where it is.
            pages => Begin::Outside(pages),
        }
    }

    /// In which tiers the adapters are but for the one that is to be evicted, and so will be in use; those of the
    /// reserve keep nobody waiting.
    fn overtakes(
        &self,
        known: &BTreeSet<EntryId>,
        holder: &Holder,
        evicted: Option<EntryId>,
        [host, device]: &[Arc<InUse>; 2],
    ) -> Overtakes {
        let mut overtakes = Overtakes::default();
        for (id, entry) in known.iter().filter_map(|id| Some((*id, self.room.entries.get(id)?))) {
            let takes = |in_use: &Arc<InUse>| !in_use.leaves_the_rest(holder, entry.bytes);
            overtakes.host |= entry.is_in_memory() && takes(host);
            overtakes.device |= entry.is_in(Tier::Device) && evicted != Some(id) && takes(device);
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
        if let Some(refusal) = all.iter().find_map(|id| self.room.entries.get(id)?.refusal.clone()) {
            return Err(refusal);
        }
        self.check_fit_together(&all.iter().copied().collect())?;
        self.hold_all(request, all, now);
        if !self.waiting.holds(request) {
            // What others keep on the device is not its own.
            return Ok(None);
        }
        let granted = all.iter().map(|id| match &self.room.entries.get(id)?.state {
            State::Device(resident) => Some((*id, Arc::clone(&resident.on_device))),
            _ => None,
        });
        Ok(granted.collect())
    }

    /// Keeps all adapters of a request for several on the device from now on, once all are in host memory. Those that
    /// others use there stay where they are: until all of them may be used, the request keeps none and looks again
    /// after the next change. Those that are idle there wait for room too, unless there is room beside them.
    fn hold_all(&mut self, request: RequestId, all: &[EntryId], now: Instant) {
        let entries = &self.room.entries;
        if !self.waiting.may_hold(request, |id| entries.get(&id).is_some_and(AdapterEntry::is_in_memory)) {
            return;
        }
        let holder = self.waiting.holder(request);
        let is_used = |id: &EntryId| entries.get(id).is_some_and(|entry| entry.is_in_use(Tier::Device));
        let (used, unused): (BTreeSet<EntryId>, BTreeSet<EntryId>) = all.iter().copied().partition(is_used);
        let in_use = self.in_use(Tier::Device);
        let may_use = self.room.may_use(&in_use, &holder, &used);
        let wanted_pages = if may_use { self.room.wanted_beside(&in_use, &holder, &used) } else { 0 };
        self.waiting.want_beside(request, wanted_pages);
        if !may_use || wanted_pages > 0 {
            self.ask_for_pages();
            return;
        }
        self.waiting.hold(request);
        // What is used already comes first, or what is idle could take the room beside it.
        for id in used.into_iter().chain(unused) {
            if self.room.entries.get(&id).is_some_and(|entry| entry.is_evictable(Tier::Device)) {
                let (in_use, ids) = (self.in_use(Tier::Device), BTreeSet::from([id]));
                let may_use = self.room.may_use(&in_use, &holder, &ids);
                if !may_use || self.room.wanted_beside(&in_use, &holder, &ids) > 0 {
                    self.room.evict(Tier::Device, id);
                }
            }
            for _ in all.iter().filter(|other| **other == id) {
                self.room.entry(id).hold(&holder);
            }
            self.waiting.queue(Tier::Device, id);
        }
        self.admit(now);
    }

    /// Refuses the adapters of one request, as far as their sizes are known, if they can never be in a tier at once.
    /// What waits for host memory is known too, or it would wait for what the request itself has there.
    fn check_fit_together(&self, distinct: &BTreeSet<EntryId>) -> Result<(), AdapterError> {
        let size = |entry: &AdapterEntry| match entry.state {
            State::WaitsForMemory(bytes) => bytes,
            _ => entry.bytes,
        };
        let needed_bytes = distinct.iter().filter_map(|id| self.room.entries.get(id)).map(size).sum();
        for tier in [Tier::Device, Tier::Host] {
            let budget_bytes = self.room.most_of_one(tier, needed_bytes);
            if distinct.len() > 1 && needed_bytes > budget_bytes {
                return Err(AdapterError::TogetherTooLarge { needed_bytes, tier, budget_bytes });
            }
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
        self.ask_for_pages();
    }

    /// Ends the use of an adapter that was granted.
    pub(in crate::adapters) fn release(&mut self, id: EntryId, holder: &Holder, now: Instant) {
        self.remove_user(id, holder, true, now);
    }

    /// Sends the requests of these holders out who wait for an adapter that has come into a tier: it came in the turn of
    /// another, out of the reserve, and they may use it when they may have it themselves. A request for several that
    /// has all of its own in host memory keeps them there.
    pub(super) fn send_out(&mut self, tier: Tier, id: EntryId, holders: &[Holder]) {
        for holder in holders {
            for request in self.waiting.that_wait_for(tier, id, holder) {
                self.news.changed = true;
                let Some(left) = self.waiting.send_out(request, tier) else { continue };
                for id in left.adapters {
                    match left.stays {
                        true => self.room.entry(id).let_go(holder),
                        false => self.room.entry(id).remove_user(holder, left.held),
                    }
                    self.withdraw_unused(id);
                }
            }
        }
    }

    fn remove_user(&mut self, id: EntryId, holder: &Holder, held: bool, now: Instant) {
        let entry = self.room.entry(id);
        entry.remove_user(holder, held);
        entry.last_used = now;
        self.withdraw_unused(id);
        // Also where others use it on: its holder has less than before.
        self.look_again(now);
    }

    /// An adapter waits no longer where nobody uses it any more.
    fn withdraw_unused(&mut self, id: EntryId) {
        let entry = self.room.entry(id);
        let (users, holds) = (entry.users, entry.holds);
        if holds == 0 {
            self.waiting.withdraw(Tier::Device, id);
        }
        if users == 0 {
            // Should its load be waiting for memory, it is not worth that any more; see `reserve`.
            self.waiting.withdraw(Tier::Host, id);
            self.drop_if_done(id);
        }
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
            Some(_) => AdapterError::LoadTimeout { waited_ms: as_ms(waited) },
            // All are there, in use by others, and what has to be left beside them is not.
            None => self.no_room_beside(entries(), waited),
        }
    }

    /// The same for a request that was not let in before others that wait.
    fn why_outside(&self, digests: &[Digest], waited: Duration) -> AdapterError {
        self.no_room_beside(digests.iter().filter_map(|digest| self.entry_of(digest)), waited)
    }

    /// There is no room for what is in memory already, or nothing of it is.
    fn no_room_beside<'a>(&self, entries: impl Iterator<Item = &'a AdapterEntry>, waited: Duration) -> AdapterError {
        match entries.map(|entry| entry.bytes).max() {
            Some(bytes) => self.room.no_room(Tier::Device, bytes, waited),
            None => AdapterError::LoadTimeout { waited_ms: as_ms(waited) },
        }
    }
}
