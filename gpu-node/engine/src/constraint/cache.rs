//! Grammars that were compiled before, so that the same constraint is not compiled again, nor twice at once.
//!
//! Each tenant has its own: none learns from the time that a compile takes what another one sends. Where there is no
//! more room, whoever has most of it loses what it used least recently, so that nobody with less than an even part
//! loses anything to others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_protocol::{ConstraintSpec, TenantId};
use tokio::sync::OnceCell;

use super::error::ConstraintError;
use super::machine::Machine;

/// How long "it takes too long" is believed: the machine may have been busy.
const TOO_SLOW_HOLDS: Duration = Duration::from_secs(10);

/// What an answer may take of memory beside twice what was compiled. Of the sources in `tests/memory.rs` only classes of
/// characters by the thousand and an ambiguous grammar would need more.
pub(super) const ANSWER_BYTES: usize = 4 << 20;

/// A compiled grammar, from which each answer takes a copy.
pub(super) struct Compiled {
    pub(super) machine: Machine,
    /// Memory of its lexer, roughly.
    pub(super) size_bytes: usize,
}

impl Compiled {
    /// Most memory of an answer: its copy, and what that grows by.
    pub(super) const fn answer_bytes(&self) -> usize {
        2 * self.size_bytes + ANSWER_BYTES
    }
}

/// What came of compiling, refusals too: they cost as much.
pub(super) struct Verdict {
    pub(super) result: Result<Arc<Compiled>, ConstraintError>,
    pub(super) at: Instant,
}

/// Empty while the first who asked compiles.
pub(super) type Slot = Arc<OnceCell<Verdict>>;

/// Least recently used first. A handful of entries: looking through them costs less than a digest of the source.
pub(super) struct Cache {
    entries: Vec<Entry>,
    max_entries: usize,
    max_bytes: usize,
}

struct Entry {
    tenant: TenantId,
    spec: Arc<ConstraintSpec>,
    slot: Slot,
}

impl Cache {
    pub(super) const fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { entries: Vec::new(), max_entries, max_bytes }
    }

    /// The slot of a tenant's `spec`, made if it is not there or no longer holds.
    pub(super) fn slot(&mut self, tenant: &TenantId, spec: &Arc<ConstraintSpec>, now: Instant) -> Slot {
        let is_it = |entry: &Entry| entry.tenant == *tenant && entry.spec == *spec;
        let known = self.entries.iter().position(is_it).map(|index| self.entries.remove(index));
        let entry = known.filter(|entry| !is_stale(&entry.slot, now)).unwrap_or_else(|| Entry {
            tenant: tenant.clone(),
            spec: Arc::clone(spec),
            slot: Slot::default(),
        });
        let slot = Arc::clone(&entry.slot);
        self.entries.push(entry);
        self.trim();
        slot
    }

    /// Drops the least recently used of whoever has most until the rest fits.
    pub(super) fn trim(&mut self) {
        while self.entries.len() > self.max_entries {
            self.drop_of_the_greatest(|_| 1);
        }
        while self.size_bytes() > self.max_bytes {
            self.drop_of_the_greatest(Entry::size_bytes);
        }
    }

    /// Bytes of all that is kept.
    pub(super) fn size_bytes(&self) -> usize {
        self.entries.iter().map(Entry::size_bytes).sum()
    }

    fn drop_of_the_greatest(&mut self, size: impl Fn(&Entry) -> usize) {
        let held = |tenant: &TenantId| -> usize {
            self.entries.iter().filter(|entry| entry.tenant == *tenant).map(&size).sum()
        };
        let most = self.entries.iter().map(|entry| held(&entry.tenant)).max();
        if let Some(index) = self.entries.iter().position(|entry| Some(held(&entry.tenant)) == most) {
            self.entries.remove(index);
        }
    }
}

impl Entry {
    fn size_bytes(&self) -> usize {
        self.spec.source_bytes() + compiled_bytes(&self.slot)
    }
}

fn compiled_bytes(slot: &Slot) -> usize {
    slot.get().and_then(|outcome| outcome.result.as_ref().ok()).map_or(0, |compiled| compiled.size_bytes)
}

fn is_stale(slot: &Slot, now: Instant) -> bool {
    slot.get().is_some_and(|outcome| {
        matches!(outcome.result, Err(ConstraintError::TooSlow { .. }))
            && now.saturating_duration_since(outcome.at) > TOO_SLOW_HOLDS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Arc<ConstraintSpec> {
        Arc::new(ConstraintSpec::Regex(text.to_owned()))
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::from_stored(name)
    }

    #[test]
    fn whoever_has_most_makes_room_and_nobody_sees_anothers() {
        let (now, mut cache) = (Instant::now(), Cache::new(4, 1000));
        let (few, many) = (tenant("few"), tenant("many"));
        let kept = cache.slot(&few, &spec("a"), now);
        assert!(!Arc::ptr_eq(&cache.slot(&many, &spec("a"), now), &kept), "the same source of another tenant");
        for number in 0..20 {
            cache.slot(&many, &spec(&number.to_string()), now);
        }
        assert_eq!(cache.entries.len(), 4);
        assert!(Arc::ptr_eq(&cache.slot(&few, &spec("a"), now), &kept));
        let mut cache = Cache::new(100, 10);
        let kept = cache.slot(&few, &spec("1234"), now);
        for number in 0..9 {
            cache.slot(&many, &spec(&format!("{number}-----")), now);
        }
        assert!(Arc::ptr_eq(&cache.slot(&few, &spec("1234"), now), &kept) && cache.size_bytes() == 10);
    }

    fn refused(error: ConstraintError) -> Verdict {
        Verdict { result: Err(error), at: Instant::now() }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let now = Instant::now();
        let mut cache = Cache::new(2, 1000);
        let first = cache.slot(&tenant("a"), &spec("a"), now);
        cache.slot(&tenant("a"), &spec("b"), now);
        assert!(Arc::ptr_eq(&cache.slot(&tenant("a"), &spec("a"), now), &first));
        cache.slot(&tenant("a"), &spec("c"), now);
        assert!(Arc::ptr_eq(&cache.slot(&tenant("a"), &spec("a"), now), &first), "b was older");
    }

    #[test]
    fn sources_count_against_the_bytes() {
        let now = Instant::now();
        let mut cache = Cache::new(100, 10);
        let first = cache.slot(&tenant("a"), &spec("123456"), now);
        cache.slot(&tenant("a"), &spec("7890ab"), now);
        assert!(!Arc::ptr_eq(&cache.slot(&tenant("a"), &spec("123456"), now), &first));
        assert_eq!(cache.entries.len(), 1);
    }

    #[test]
    fn a_refusal_for_time_is_forgotten_and_others_are_not() {
        let now = Instant::now();
        let mut cache = Cache::new(4, 1000);
        for (text, error, is_kept) in [
            ("slow", ConstraintError::TooSlow { limit: Duration::from_secs(2) }, false),
            ("wrong", ConstraintError::NoText, true),
        ] {
            let slot = cache.slot(&tenant("a"), &spec(text), now);
            slot.set(refused(error)).ok().unwrap();
            assert!(Arc::ptr_eq(&cache.slot(&tenant("a"), &spec(text), now), &slot));
            let later = now + TOO_SLOW_HOLDS + Duration::from_secs(1);
            assert_eq!(Arc::ptr_eq(&cache.slot(&tenant("a"), &spec(text), later), &slot), is_kept, "{text}");
        }
    }
}
