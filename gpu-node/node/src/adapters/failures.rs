//! Which adapters are not loaded: what failed a moment ago, so that a broken adapter in demand is not read again for
//! each request, and what was taken down.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_protocol::Digest;
use souk_queue::ORDERS_KEPT;

use super::error::{AdapterError, as_ms};

/// Most failures that are remembered. Beyond it the one that may be tried again first is forgotten.
const MAX_REMEMBERED: usize = 1024;

#[derive(Debug)]
pub(super) struct Failures {
    first_pause: Duration,
    longest_pause: Duration,
    by_digest: HashMap<Digest, Failure>,
}

#[derive(Debug)]
struct Failure {
    num_failures: u32,
    retry_at: Instant,
    reason: Arc<AdapterError>,
}

impl Failures {
    pub(super) fn new(first_pause: Duration, longest_pause: Duration) -> Self {
        Self { first_pause, longest_pause, by_digest: HashMap::new() }
    }

    /// Refuses a load while the pause after the last failure lasts.
    pub(super) fn check(&self, digest: &Digest, now: Instant) -> Result<(), AdapterError> {
        match self.by_digest.get(digest) {
            Some(failure) if now < failure.retry_at => Err(AdapterError::BackingOff {
                retry_in_ms: as_ms(failure.retry_at - now).max(1),
                reason: Arc::clone(&failure.reason),
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn remember(&mut self, digest: Digest, reason: AdapterError, now: Instant) {
        let num_failures = self.by_digest.get(&digest).map_or(0, |failure| failure.num_failures) + 1;
        let doubled = self.first_pause.saturating_mul(1 << (num_failures - 1).min(20));
        let retry_at = now + doubled.min(self.longest_pause);
        self.by_digest.insert(digest, Failure { num_failures, retry_at, reason: Arc::new(reason) });
        if self.by_digest.len() > MAX_REMEMBERED {
            let next = self.by_digest.iter().min_by_key(|(_, failure)| failure.retry_at).map(|(digest, _)| *digest);
            next.map(|digest| self.by_digest.remove(&digest));
        }
    }

    pub(super) fn forget(&mut self, digest: &Digest) {
        self.by_digest.remove(digest);
    }
}

/// What was taken down. Of more than [`ORDERS_KEPT`] the oldest is forgotten, as it is in the queue.
#[derive(Debug, Default)]
pub(super) struct TakenDown {
    digests: HashSet<Digest>,
    oldest_first: VecDeque<Digest>,
}

impl TakenDown {
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }

    pub(super) fn insert(&mut self, digest: Digest) {
        if !self.digests.insert(digest) {
            return;
        }
        self.oldest_first.push_back(digest);
        if self.oldest_first.len() > ORDERS_KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.digests.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_the_longest_and_ends_with_success() {
        let mut failures = Failures::new(Duration::from_millis(100), Duration::from_millis(350));
        let (digest, mut now) = (Digest::of(b"a"), Instant::now());
        for pause_ms in [100, 200, 350, 350] {
            assert!(failures.check(&digest, now).is_ok());
            failures.remember(digest, AdapterError::Stopped, now);
            now += Duration::from_millis(pause_ms - 1);
            let refused = failures.check(&digest, now);
            assert!(matches!(refused, Err(AdapterError::BackingOff { retry_in_ms: 1, .. })), "{refused:?}");
            assert!(failures.check(&Digest::of(b"b"), now).is_ok());
            now += Duration::from_millis(1);
        }
        failures.forget(&digest);
        failures.remember(digest, AdapterError::Stopped, now);
        assert!(failures.check(&digest, now + Duration::from_millis(100)).is_ok());
    }

    #[test]
    fn memory_of_take_downs_is_bounded() {
        let mut taken_down = TakenDown::default();
        let digest = |index: usize| Digest::of(&index.to_le_bytes());
        for index in (0..=ORDERS_KEPT).chain(0..=ORDERS_KEPT).filter(|index| *index > 0) {
            taken_down.insert(digest(index));
        }
        assert!(taken_down.contains(&digest(1)), "naming one twice forgets none");
        taken_down.insert(digest(0));
        assert_eq!((taken_down.digests.len(), taken_down.oldest_first.len()), (ORDERS_KEPT, ORDERS_KEPT));
        assert!(!taken_down.contains(&digest(1)) && taken_down.contains(&digest(2)));
    }

    #[test]
    fn memory_of_failures_is_bounded() {
        let mut failures = Failures::new(Duration::from_secs(1), Duration::from_secs(1));
        let now = Instant::now();
        for index in 0..=MAX_REMEMBERED as u64 {
            let later = now + Duration::from_millis(index);
            failures.remember(Digest::of(&index.to_le_bytes()), AdapterError::Stopped, later);
        }
        assert_eq!(failures.by_digest.len(), MAX_REMEMBERED);
        assert!(failures.check(&Digest::of(&0u64.to_le_bytes()), now).is_ok(), "the oldest is the one forgotten");
    }
}
