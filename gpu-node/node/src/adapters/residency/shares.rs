//! How the room of a tier is shared between tenants, by the rules of a gate (docs/limits.md).
//!
//! What counts is what is **in use**: of the host tier what requests run or wait with, of the device what they keep
//! there. Idle content is nobody's and goes when room is needed. Who has next to nothing in use, and asks for a small
//! adapter, finds room in the reserve whatever others hold; it passes those that wait for more, and takes nothing from
//! them by that, since what such holders have of the reserve the others are not bound to leave any more. An adapter
//! that several use counts once in all, and for each of them in its share.

use std::collections::{BTreeSet, HashMap, HashSet};

use souk_engine::device_memory::{PAGE_BYTES, Side, pages_for};
use souk_protocol::gate::{Cause, Refusal, Rules};

use super::room::Room;
use crate::adapters::entry::{AdapterEntry, EntryId, Holder};
use crate::adapters::error::Tier;
use crate::adapters::waiting::Turn;

/// What is in use of one tier, and by whom. It is good until something comes into use or out of it; what is idle may
/// come and go.
#[derive(Debug, PartialEq)]
pub(super) struct InUse {
    pub(super) tier: Tier,
    rules: Rules,
    /// Bytes in all.
    used: u64,
    /// Pages in all.
    pub(super) pages: usize,
    held: HashMap<Holder, u64>,
    /// What only holders of next to nothing use, with its bytes.
    reserved: Vec<(EntryId, u64)>,
    /// Bytes that such holders use, if others do too or not.
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

    pub(super) fn in_use(&self, tier: Tier) -> InUse {
        let rules = self.rules(tier);
        let entries: Vec<_> = self.entries.iter().filter(|(_, entry)| entry.is_in_use(tier)).collect();
        let mut held: HashMap<Holder, u64> = HashMap::new();
        for (_, entry) in &entries {
            for holder in entry.holders_in(tier) {
                match held.get_mut(holder) {
                    Some(held) => *held += entry.bytes as u64,
                    None => drop(held.insert(holder.clone(), entry.bytes as u64)),
                }
            }
        }
        let is_small = |holder: &Holder| held.get(holder).is_some_and(|held| *held <= rules.small);
        let (mut used, mut pages, mut near_reserve, mut reserved) = (0, 0, 0, Vec::new());
        for (id, entry) in entries {
            let bytes = entry.bytes as u64;
            (used, pages) = (used + bytes, pages + pages_for(entry.bytes));
            if entry.holders_in(tier).any(is_small) {
                near_reserve += bytes;
            }
            if is_reserved(entry, tier, is_small) {
                reserved.push((*id, bytes));
            }
        }
        reserved.sort_unstable();
        InUse { tier, rules, used, pages, held, reserved, near_reserve }
    }

    /// Whether one of those who wait for the adapter may have it in the tier beside what is in use, so that it can be
    /// granted if there is room; returns how many bytes have to be left for others then. The even parts are those of
    /// `waiting`, who wait there, and of those who hold; whoever gathers is not held to one, since others may wait for
    /// what it has gathered.
    pub(super) fn may_have(
        &self,
        in_use: &InUse,
        id: EntryId,
        bytes: usize,
        waiting: &HashSet<Holder>,
        turn: Turn,
    ) -> Result<usize, Cause> {
        let Some(entry) = self.entries.get(&id) else { return Ok(0) };
        let nobody = HashSet::new();
        let waiting = if turn == Turn::Gathering { &nobody } else { waiting };
        let ids = BTreeSet::from([id]);
        let (mut cause, mut to_leave) = (Cause::Share, None);
        for holder in entry.holders_in(in_use.tier) {
            match in_use.check(holder, &[(entry, bytes)], waiting) {
                Ok(()) if turn != Turn::Passing || in_use.leaves_the_rest(holder, bytes) => {
                    let left = self.left_by(in_use, holder, &ids, bytes);
                    to_leave = Some(to_leave.map_or(left, |least: usize| least.min(left)));
                }
                Ok(()) => cause = Cause::Full,
                Err(refusal) if refusal.cause == Cause::Full => cause = Cause::Full,
                Err(_) => {}
            }
        }
        to_leave.ok_or(cause)
    }

    /// Those who wait for the adapter as well and may not have it beside what is in use, where it comes because another
    /// may, who leaves so many bytes. That one is never among them.
    pub(super) fn left_out(&self, in_use: &InUse, id: EntryId, bytes: usize, to_leave: usize) -> Vec<Holder> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        if entry.holders.len() == 1 {
            return Vec::new();
        }
        let (nobody, ids) = (HashSet::new(), BTreeSet::from([id]));
        let idle_pages = self.idle_pages(&ids);
        let has_pages = |holder: &Holder| {
            let left = self.left_by(in_use, holder, &ids, bytes);
            let wanted = pages_for(bytes) + pages_for(left);
            in_use.tier == Tier::Host || left <= to_leave || self.pages_lacking(wanted, idle_pages) == 0
        };
        let may = |holder: &Holder| in_use.check(holder, &[(entry, bytes)], &nobody).is_ok() && has_pages(holder);
        entry.holders_in(in_use.tier).filter(|holder| !may(holder)).cloned().collect()
    }

    /// Whether `holder` may begin to use all of these adapters at once, as far as they are in memory.
    pub(super) fn may_use(&self, in_use: &InUse, holder: &Holder, ids: &BTreeSet<EntryId>) -> bool {
        let entries = ids.iter().filter_map(|id| self.entries.get(id)).filter(|entry| entry.is_in(in_use.tier));
        let entries: Vec<_> = entries.map(|entry| (entry, entry.bytes)).collect();
        in_use.check(holder, &entries, &HashSet::new()).is_ok()
    }

    /// Pages that have to come free before `holder` may begin to use all of these adapters, as far as they are on the
    /// device; 0 if it may now. It has to leave the reserve like whoever brings an adapter there: K and V may have all
    /// that is neither in use nor kept from them, and then what is idle lies in the reserve and is all of it.
    pub(super) fn wanted_beside(&self, in_use: &InUse, holder: &Holder, ids: &BTreeSet<EntryId>) -> usize {
        let uses = |entry: &AdapterEntry| entry.holders_in(Tier::Device).any(|other| other == holder);
        let is_new = |entry: &&AdapterEntry| entry.is_in(Tier::Device) && !uses(entry);
        let bytes: usize =
            ids.iter().filter_map(|id| self.entries.get(id)).filter(is_new).map(|entry| entry.bytes).sum();
        if bytes == 0 {
            return 0;
        }
        let to_leave = self.left_by(in_use, holder, ids, bytes);
        self.pages_lacking(pages_for(to_leave), self.idle_pages(ids))
    }

    /// Pages of what is idle on the device, but for these.
    fn idle_pages(&self, but_for: &BTreeSet<EntryId>) -> usize {
        let is_idle = |id: &EntryId, entry: &AdapterEntry| !but_for.contains(id) && entry.is_evictable(Tier::Device);
        self.entries.iter().filter(|(id, entry)| is_idle(id, entry)).map(|(_, entry)| pages_for(entry.bytes)).sum()
    }

    /// What `holder` leaves for others, if it has these with so many bytes more: the reserve, as far as others do not
    /// use it, unless it is for itself.
    fn left_by(&self, in_use: &InUse, holder: &Holder, ids: &BTreeSet<EntryId>, bytes: usize) -> usize {
        if in_use.is_small_with(holder, bytes) {
            return 0;
        }
        let has = |entry: &AdapterEntry| entry.holders_in(in_use.tier).any(|other| other == holder);
        let uses = |id: &EntryId| self.entries.get(id).is_some_and(has);
        let of_others = in_use.reserved.iter().filter(|(id, _)| !ids.contains(id) && !uses(id));
        let reserved: u64 = of_others.map(|(_, bytes)| bytes).sum();
        usize::try_from(in_use.rules.reserve.saturating_sub(reserved)).unwrap_or(usize::MAX)
    }

    /// Keeps the reserve from K and V, as far as they have left it: it lies beside what is in use of the device.
    pub(super) fn keep_the_reserve(&self, in_use: &InUse) {
        let reserve = usize::try_from(in_use.rules.reserve).unwrap_or(usize::MAX);
        self.memory.keep(Side::Adapters, in_use.pages + pages_for(reserve));
    }
}

impl InUse {
    /// What a holder has.
    pub(super) fn held(&self, holder: &Holder) -> u64 {
        self.held.get(holder).copied().unwrap_or_default()
    }

    /// Whether `holder` may have these adapters, of so many bytes each, beside what is in use.
    fn check(
        &self,
        holder: &Holder,
        entries: &[(&AdapterEntry, usize)],
        waiting: &HashSet<Holder>,
    ) -> Result<(), Refusal> {
        let tier = self.tier;
        let held = self.held(holder);
        let has = |entry: &AdapterEntry| entry.is_in_use(tier) && entry.holders_in(tier).any(|other| other == holder);
        let new = || entries.iter().filter(|(entry, _)| held == 0 || !has(entry));
        if new().next().is_none() {
            return Ok(());
        }
        let sum = |of: &dyn Fn(&AdapterEntry) -> bool| -> u64 {
            new().filter(|(entry, _)| of(entry)).map(|(_, bytes)| *bytes as u64).sum()
        };
        let bytes = sum(&|_| true);
        let is_small = |holder: &Holder| self.held(holder) <= self.rules.small;
        // What is there already is not taken again, unless it was part of the reserve and would be no more.
        let (used, counted) = match held + bytes <= self.rules.small {
            true => (self.used, sum(&|entry| entry.is_in_use(tier))),
            false => {
                let is_counted = |entry: &AdapterEntry| entry.is_in_use(tier) && !is_reserved(entry, tier, is_small);
                let in_reserve: u64 = self.reserved.iter().map(|(_, bytes)| bytes).sum();
                (self.used - in_reserve.min(self.rules.reserve), sum(&is_counted))
            }
        };
        let used = used.saturating_sub(counted);
        // Whoever has nothing may have one, however many wait.
        let least = if held == 0 { bytes } else { 0 };
        self.rules.check(bytes, held, used, self.share(holder, held + bytes, waiting).max(least))
    }

    fn share(&self, holder: &Holder, held: u64, waiting: &HashSet<Holder>) -> u64 {
        let others: HashSet<_> = waiting.iter().filter(|other| *other != holder).collect();
        if others.is_empty() {
            return self.rules.room(held);
        }
        let that_hold = self.held.keys().filter(|other| *other != holder && !others.contains(other)).count();
        self.rules.even_part(held, 1 + others.len() + that_hold)
    }

    fn is_small_with(&self, holder: &Holder, bytes: usize) -> bool {
        self.held(holder) + bytes as u64 <= self.rules.small
    }

    /// Whether these bytes come out of the reserve, and so leave all that is not part of it: nobody who waits for that is
    /// overtaken.
    pub(super) fn leaves_the_rest(&self, holder: &Holder, bytes: usize) -> bool {
        self.is_small_with(holder, bytes) && self.near_reserve + bytes as u64 <= self.rules.reserve
    }
}

/// Whether all who use an entry hold next to nothing.
fn is_reserved(entry: &AdapterEntry, tier: Tier, is_small: impl Fn(&Holder) -> bool) -> bool {
    entry.holders_in(tier).next().is_some() && entry.holders_in(tier).all(is_small)
}
