//! Grammars that were compiled before, so that the same constraint is not compiled again, nor twice at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use llguidance::Matcher;
use souk_protocol::ConstraintSpec;
use tokio::sync::OnceCell;

use super::error::ConstraintError;

/// How long "it takes too long" is believed: the machine may have been busy.
const TOO_SLOW_HOLDS: Duration = Duration::from_secs(10);

/// A compiled grammar, from which each answer takes a copy.
pub(super) struct Compiled {
    pub(super) grammar: Matcher,
    /// Memory of its lexer, roughly.
    pub(super) size_bytes: usize,
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
    entries: Vec<(Arc<ConstraintSpec>, Slot)>,
    max_entries: usize,
    max_bytes: usize,
}

impl Cache {
    pub(super) const fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self { entries: Vec::new(), max_entries, max_bytes }
    }

    /// The slot of `spec`, made if it is not there or no longer holds.
    pub(super) fn slot(&mut self, spec: &Arc<ConstraintSpec>, now: Instant) -> Slot {
        let known = self.entries.iter().position(|(known, _)| known == spec).map(|index| self.entries.remove(index));
        let (spec, slot) =
            known.filter(|(_, slot)| !is_stale(slot, now)).unwrap_or_else(|| (Arc::clone(spec), Slot::default()));
        self.entries.push((spec, Arc::clone(&slot)));
        self.trim();
        slot
    }

    /// Drops the least recently used until the rest fits.
    pub(super) fn trim(&mut self) {
        while self.entries.len() > self.max_entries || self.size_bytes() > self.max_bytes {
            self.entries.remove(0);
        }
    }

    fn size_bytes(&self) -> usize {
        self.entries.iter().map(|(spec, slot)| spec.source_bytes() + compiled_bytes(slot)).sum()
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

    fn refused(error: ConstraintError) -> Verdict {
        Verdict { result: Err(error), at: Instant::now() }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let now = Instant::now();
        let mut cache = Cache::new(2, 1000);
        let first = cache.slot(&spec("a"), now);
        cache.slot(&spec("b"), now);
        assert!(Arc::ptr_eq(&cache.slot(&spec("a"), now), &first));
        cache.slot(&spec("c"), now);
        assert!(Arc::ptr_eq(&cache.slot(&spec("a"), now), &first), "b was older");
    }

    #[test]
    fn sources_count_against_the_bytes() {
        let now = Instant::now();
        let mut cache = Cache::new(100, 10);
        let first = cache.slot(&spec("123456"), now);
        cache.slot(&spec("7890ab"), now);
        assert!(!Arc::ptr_eq(&cache.slot(&spec("123456"), now), &first));
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
            let slot = cache.slot(&spec(text), now);
            slot.set(refused(error)).ok().unwrap();
            assert!(Arc::ptr_eq(&cache.slot(&spec(text), now), &slot));
            let later = now + TOO_SLOW_HOLDS + Duration::from_secs(1);
            assert_eq!(Arc::ptr_eq(&cache.slot(&spec(text), later), &slot), is_kept, "{text}");
        }
    }
}
