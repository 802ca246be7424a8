//! What hooks did in one request, for its row of usage.

use std::sync::{Mutex, MutexGuard, PoisonError};

use souk_protocol::hooks::HookUse;
use souk_protocol::ids::HookVersionId;

/// Counts by hook, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Vec<HookUse>>);

impl Tally {
    /// Counts something of a version.
    pub(crate) fn count(&self, version: &HookVersionId, change: impl FnOnce(&mut HookUse)) {
        let mut uses = self.lock();
        match uses.iter_mut().find(|one| one.version == *version) {
            Some(one) => change(one),
            None => {
                let mut one = HookUse::none(version.clone());
                change(&mut one);
                uses.push(one);
            }
        }
    }

    /// All that was counted.
    pub(crate) fn all(&self) -> Vec<HookUse> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<HookUse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
