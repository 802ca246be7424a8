//! Slots of loads, and whose turn it is for one.

use std::collections::{HashMap, HashSet};

use super::{Purpose, Waiting};
use crate::adapters::entry::{EntryId, Holder};

impl Waiting {
    /// Whether a prefetch may begin to load. There is no queue for these: it begins now or not at all.
    pub(in crate::adapters) fn has_prefetch_slot(&self) -> bool {
        self.loads.values().filter(|(purpose, _)| *purpose == Purpose::Prefetch).count() < self.max_prefetches
    }

    /// An adapter is to be loaded for `holder`.
    pub(in crate::adapters) fn begin_load(&mut self, adapter: EntryId, purpose: Purpose, holder: &Holder) {
        match purpose {
            Purpose::Prefetch => drop(self.loads.insert(adapter, (purpose, None))),
            Purpose::Request | Purpose::Passing => self.load_queue.push_back((adapter, holder.clone())),
        }
        self.start_loads();
    }

    /// How many loads have a slot, prefetches among them.
    pub(in crate::adapters) fn num_loads(&self) -> usize {
        self.loads.len()
    }

    /// Whether the load has its slot.
    pub(in crate::adapters) fn may_load(&self, adapter: EntryId) -> bool {
        self.loads.contains_key(&adapter)
    }

    /// The load is over, whatever came of it.
    pub(in crate::adapters) fn end_load(&mut self, adapter: EntryId) {
        self.loads.remove(&adapter);
        self.load_queue.retain(|(other, _)| *other != adapter);
        self.start_loads();
    }

    pub(super) fn start_loads(&mut self) {
        while let Some((at, holder)) = self.next_load() {
            self.start_load(at, Purpose::Request, holder);
        }
        // Those of gatherers that have gone may still be at work; as each takes memory, they are bounded too.
        let beside = self.loads.values().filter(|(purpose, _)| *purpose == Purpose::Passing).count() as u64;
        if beside >= self.load_rules.total {
            return;
        }
        let gathered = self.gathered();
        if !gathered.iter().any(|adapter| self.loads.contains_key(adapter))
            && let Some(at) = self.load_queue.iter().position(|(adapter, _)| gathered.contains(adapter))
        {
            let holder = self.gatherers.front().and_then(|id| self.holder(*id));
            // Beside the slots, so that none of them is missing to others.
            self.start_load(at, Purpose::Passing, holder);
        }
    }

    fn start_load(&mut self, at: usize, purpose: Purpose, holder: Holder) {
        self.loads.extend(self.load_queue.remove(at).map(|(adapter, _)| (adapter, (purpose, holder))));
    }

    /// Who may begin to load now, by the place in the queue, and in whose turn.
    fn next_load(&self) -> Option<(usize, Holder)> {
        if self.load_queue.is_empty() {
            return None;
        }
        let mut held: HashMap<&Holder, u64> = HashMap::new();
        for (_, holder) in self.loads.values().filter(|(purpose, _)| *purpose == Purpose::Request) {
            *held.entry(holder).or_default() += 1;
        }
        let used = held.values().sum();
        let mut places: Vec<_> = Vec::new();
        for (at, (adapter, first)) in self.load_queue.iter().enumerate() {
            let waiters = self.requests.values().filter(|waiter| waiter.adapters.contains(adapter));
            let holders = waiters.map(|waiter| &waiter.holder).chain([first]);
            places.extend(holders.map(|holder| (held.get(holder).copied().unwrap_or_default(), at, holder)));
        }
        places.sort_unstable();
        let waiting: HashSet<&Holder> = places.iter().map(|(_, _, holder)| *holder).collect();
        let num_parts = waiting.iter().chain(held.keys()).collect::<HashSet<_>>().len();
        let may = |(held, _, _): &&(u64, usize, &Holder)| {
            let share = match waiting.len() {
                1 => self.load_rules.room(held + 1),
                _ => self.load_rules.even_part(held + 1, num_parts),
            };
            self.load_rules.check(1, *held, used, share).is_ok()
        };
        places.iter().find(may).map(|(_, at, holder)| (*at, (*holder).clone()))
    }
}
