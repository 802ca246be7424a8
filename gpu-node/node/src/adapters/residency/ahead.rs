//! What comes before anybody asks for it, and what goes since nobody asks.

use std::time::{Duration, Instant};

use souk_protocol::Digest;

use super::super::entry::AdapterEntry;
use super::super::error::Tier;
use super::Residency;

impl Residency {
    /// Whether an adapter is in memory.
    pub(in crate::adapters) fn is_resident(&self, digest: &Digest) -> bool {
        let entry = self.room.by_digest.get(digest).and_then(|id| self.room.entries.get(id));
        entry.is_some_and(AdapterEntry::is_in_memory)
    }

    /// Whether a load of an adapter is under way.
    pub(in crate::adapters) fn is_coming(&self, digest: &Digest) -> bool {
        let entry = self.room.by_digest.get(digest).and_then(|id| self.room.entries.get(id));
        entry.is_some_and(AdapterEntry::is_loading)
    }

    /// Whether something may be loaded ahead of its requests now.
    pub(in crate::adapters) fn has_prefetch_slot(&self) -> bool {
        self.waiting.has_prefetch_slot()
    }

    /// Drops what is in memory and nobody has used within `idle`. Returns how many that were.
    pub(in crate::adapters) fn let_idle_go(&mut self, idle: Duration, now: Instant) -> usize {
        let is_idle = |entry: &AdapterEntry| {
            entry.is_evictable(Tier::Host) && now.saturating_duration_since(entry.last_used) >= idle
        };
        let ids: Vec<_> = self.room.entries.iter().filter(|(_, entry)| is_idle(entry)).map(|(id, _)| *id).collect();
        ids.iter().for_each(|id| self.room.remove(*id));
        self.room.totals.left_idle += ids.len() as u64;
        if !ids.is_empty() {
            self.look_again(now);
        }
        ids.len()
    }
}
