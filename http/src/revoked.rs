//! Keys that were revoked while tokens of theirs may live, for whoever verifies tokens.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::token::{LEEWAY, LIFETIME};

/// How long a revocation is remembered: no token of the key lives longer.
pub const REMEMBERED: Duration = LIFETIME.saturating_add(LEEWAY).saturating_add(Duration::from_secs(60));

/// The ids of keys that were revoked lately. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct RevokedKeys(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// How often each is in the line below.
    keys: HashMap<String, usize>,
    /// In the order in which they were heard of.
    heard: VecDeque<(Instant, String)>,
}

impl RevokedKeys {
    /// Whether tokens of this key count no more.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.lock().keys.contains_key(key)
    }

    /// Remembers a key that is revoked, and forgets those whose tokens are all over.
    pub fn add(&self, key: &str, now: Instant) {
        let mut state = self.lock();
        while state.heard.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > REMEMBERED) {
            state.forget_first();
        }
        *state.keys.entry(key.to_owned()).or_default() += 1;
        state.heard.push_back((now, key.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is made in one go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_first(&mut self) {
        let Some((_, key)) = self.heard.pop_front() else { return };
        if let Some(times) = self.keys.get_mut(&key) {
            *times -= 1;
            if *times == 0 {
                self.keys.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_for_as_long_as_a_token_of_it_may_live() {
        let (revoked, start) = (RevokedKeys::default(), Instant::now());
        revoked.add("a", start);
        revoked.add("a", start + REMEMBERED / 2);
        revoked.add("b", start + REMEMBERED + Duration::from_secs(1));
        assert!(revoked.has("a") && revoked.has("b") && !revoked.has("c"));
        revoked.add("c", start + REMEMBERED * 2);
        assert!(!revoked.has("a") && revoked.has("b") && revoked.has("c"));
        assert_eq!(revoked.lock().heard.len(), 2);
    }
}
