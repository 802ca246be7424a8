//! How the room of a tier is shared between tenants, by the rules of a gate (docs/limits.md).
//!
//! What counts is what is **in use**: of the host tier what requests run or wait with, of the device what they keep
//! there. Idle content is nobody's and goes when room is needed. Who has next to nothing in use, and asks for a small
//! adapter, finds room in the reserve whatever others hold; it passes those that wait for more, and takes nothing from
//! them by that, since what such holders have of the reserve the others are not bound to leave any more. An adapter
//! that several use counts once in all, and for each of them in its share.

use std::collections::{HashMap, HashSet};

use souk_engine::device_memory::{PAGE_BYTES, Side, pages_for};
use souk_protocol::gate::{Cause, Refusal, Rules};

use super::room::Room;
use crate::adapters::entry::{AdapterEntry, EntryId, Holder};
use crate::adapters::error::Tier;
use crate::adapters::waiting::Turn;

/// What is in use of one tier, and by whom.
pub(super) struct InUse<'a> {
    rules: Rules,
    /// Bytes in all.
    used: u64,
    held: HashMap<&'a Holder, u64>,
    /// Of it, what only holders of next to nothing use.
    in_reserve: u64,
    /// What such holders use, if others do too or not.
    near_reserve: u64,
}

impl Room {
    /// The rules of a tier, in bytes. The reserve is an eighth in whole pages, and a request is small with half of it, so
    /// that one tenant never has it all.
    pub(super) fn rules(&self, tier: Tier) -> Rules {
        let total = match tier {
            Tier::Host => self.limits.host_bytes,
            Tier::Device => self.most_device_bytes(),
        };
        // Of the device what K and V can never take, so that they cannot take the reserve.
        let most_reserve = match tier {
            Tier::Host => usize::MAX,
            Tier::Device => self.memory.floor(Side::Adapters) * PAGE_BYTES / 2,
        };
        let reserve = ((total / 8).min(most_reserve) / PAGE_BYTES * PAGE_BYTES) as u64;
        Rules { total: total as u64, reserve, small: reserve / 2, most: total as u64 }
    }

    /// The most bytes that one request may have of a tier in all.
    pub(super) fn most_of_one(&self, tier: Tier, bytes: usize) -> usize {
        usize::try_from(self.rules(tier).room(bytes as u64)).unwrap_or(usize::MAX)
    }

    pub(super) fn in_use(&self, tier: Tier) -> InUse<'_> {
        let rules = self.rules(tier);
        let in_use = || self.entries.values().filter(|entry| entry.is_in_use(tier));
        let mut held: HashMap<&Holder, u64> = HashMap::new();
        for entry in in_use() {
            entry.holders_in(tier).for_each(|holder| *held.entry(holder).or_default() += entry.bytes as u64);
        }
        let (mut used, mut in_reserve, mut near_reserve) = (0, 0, 0);
        for entry in in_use() {
            let bytes = entry.bytes as u64;
            used += bytes;
            let is_small = |holder: &Holder| held.get(holder).is_some_and(|held| *held <= rules.small);
            if entry.holders_in(tier).any(is_small) {
                near_reserve += bytes;
            }
            if is_reserved(entry, tier, is_small) {
                in_reserve += bytes;
            }
        }
        InUse { rules, used, held, in_reserve: in_reserve.min(rules.reserve), near_reserve }
    }

    /// Whether one of those who wait for the adapter may have it in the tier beside what is in use, so that it can be
    /// granted if there is room. The even parts are those of `waiting`, who wait there, and of those who hold; whoever
    /// gathers is not held to one, since others may wait for what it has gathered.
    pub(super) fn may_have(
        &self,
        tier: Tier,
        id: EntryId,
        bytes: usize,
        waiting: &HashSet<Holder>,
        turn: Turn,
    ) -> Result<(), Cause> {
        let Some(entry) = self.entries.get(&id) else { return Ok(()) };
        let (in_use, nobody) = (self.in_use(tier), HashSet::new());
        let waiting = if turn == Turn::Gathering { &nobody } else { waiting };
        let mut cause = Cause::Share;
        for holder in entry.holders_in(tier) {
            match in_use.check(holder, entry, tier, bytes, waiting) {
                Ok(()) if turn != Turn::Passing || in_use.leaves_the_rest(holder, bytes) => return Ok(()),
                Ok(()) => cause = Cause::Full,
                Err(refusal) if refusal.cause == Cause::Full => cause = Cause::Full,
                Err(_) => {}
            }
        }
        Err(cause)
    }

    /// Whether `holder` may begin to use the adapter where it is in memory.
    pub(super) fn may_use(&self, tier: Tier, holder: &Holder, entry: &AdapterEntry) -> bool {
        !entry.is_in(tier) || self.in_use(tier).check(holder, entry, tier, entry.bytes, &HashSet::new()).is_ok()
    }

    /// Whether what `holder` begins to use there is taken from the reserve, so that nobody who waits is overtaken.
    pub(super) fn is_in_reserve(&self, tier: Tier, holder: &Holder, entry: &AdapterEntry) -> bool {
        self.in_use(tier).leaves_the_rest(holder, entry.bytes)
    }

    /// What whoever asks for so many bytes has to leave for others: the reserve, as far as it is not in use, unless it
    /// is for itself.
    pub(super) fn to_leave(&self, tier: Tier, id: EntryId, bytes: usize) -> usize {
        let in_use = self.in_use(tier);
        let Some(entry) = self.entries.get(&id) else { return 0 };
        if entry.holders_in(tier).any(|holder| in_use.is_small_with(holder, bytes)) {
            return 0;
        }
        usize::try_from(in_use.rules.reserve - in_use.in_reserve).unwrap_or(usize::MAX)
    }

    /// Keeps the reserve from K and V, as far as they have left it: it lies beside what is in use.
    pub(super) fn keep_the_reserve(&self) {
        let in_use = self.entries.values().filter(|entry| entry.is_in_use(Tier::Device));
        let pages: usize = in_use.map(|entry| pages_for(entry.bytes)).sum();
        let reserve = usize::try_from(self.rules(Tier::Device).reserve).unwrap_or(usize::MAX);
        self.memory.keep(Side::Adapters, pages + pages_for(reserve));
    }
}

impl InUse<'_> {
    /// What a holder has.
    pub(super) fn held(&self, holder: &Holder) -> u64 {
        self.held.get(holder).copied().unwrap_or_default()
    }

    fn check(
        &self,
        holder: &Holder,
        entry: &AdapterEntry,
        tier: Tier,
        bytes: usize,
        waiting: &HashSet<Holder>,
    ) -> Result<(), Refusal> {
        let (held, bytes) = (self.held(holder), bytes as u64);
        let is_used = entry.is_in_use(tier);
        if is_used && held > 0 && entry.holders_in(tier).any(|other| other == holder) {
            return Ok(());
        }
        let is_small = |holder: &Holder| self.held(holder) <= self.rules.small;
        // What is there already is not taken again, unless it was part of the reserve and would be no more.
        let (used, is_counted) = match held + bytes <= self.rules.small {
            true => (self.used, is_used),
            false => (self.used - self.in_reserve, is_used && !is_reserved(entry, tier, is_small)),
        };
        let used = if is_counted { used.saturating_sub(bytes) } else { used };
        // Whoever has nothing may have one, however many wait.
        let least = if held == 0 { bytes } else { 0 };
        self.rules.check(bytes, held, used, self.share(holder, held + bytes, waiting).max(least))
    }

    fn share(&self, holder: &Holder, held: u64, waiting: &HashSet<Holder>) -> u64 {
        let others: HashSet<_> = waiting.iter().filter(|other| *other != holder).collect();
        if others.is_empty() {
            return self.rules.room(held);
        }
        let that_hold = self.held.keys().filter(|other| **other != holder && !others.contains(**other)).count();
        self.rules.even_part(held, 1 + others.len() + that_hold)
    }

    fn is_small_with(&self, holder: &Holder, bytes: usize) -> bool {
        self.held(holder) + bytes as u64 <= self.rules.small
    }

    /// Whether these bytes come out of the reserve, and so leave all that is not part of it.
    fn leaves_the_rest(&self, holder: &Holder, bytes: usize) -> bool {
        self.is_small_with(holder, bytes) && self.near_reserve + bytes as u64 <= self.rules.reserve
    }
}

/// Whether all who use an entry hold next to nothing.
fn is_reserved(entry: &AdapterEntry, tier: Tier, is_small: impl Fn(&Holder) -> bool) -> bool {
    entry.holders_in(tier).next().is_some() && entry.holders_in(tier).all(is_small)
}
