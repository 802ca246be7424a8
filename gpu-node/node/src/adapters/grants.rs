//! What files are fetched with: the grants that came in jobs, in what is peeked at and in orders, the latest of each version.
//!
//! A load is begun by one request and joined by others, and a grant is good for a while only; so whoever begins one takes
//! the latest that anybody brought. What is kept here is no right to run an adapter: what is resident or on disk is used
//! without.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use souk_protocol::{Digest, Fetchable, FileGrant};

/// Versions whose grants are kept: more than a node holds jobs and pins for at a time. Beyond it the one that came first is
/// forgotten.
const MAX_KEPT: usize = 4096;

/// Grants by version. The lock is held for a look.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_version: HashMap<Digest, FileGrant>,
    oldest_first: VecDeque<Digest>,
}

impl Grants {
    /// Keeps a grant in the place of an older one of the same version.
    pub(super) fn keep(&self, wanted: &Fetchable) {
        let Fetchable { digest, grant: Some(grant) } = wanted else { return };
        let mut kept = self.lock();
        if kept.by_version.insert(*digest, grant.clone()).is_some() {
            return;
        }
        kept.oldest_first.push_back(*digest);
        if kept.oldest_first.len() > MAX_KEPT
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.by_version.remove(&oldest);
        }
    }

    /// The version with its grant, if there is one.
    pub(super) fn of(&self, digest: &Digest) -> Fetchable {
        Fetchable { digest: *digest, grant: self.lock().by_version.get(digest).cloned() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetchable(number: usize, grant: Option<&str>) -> Fetchable {
        Fetchable { digest: Digest::of(&number.to_le_bytes()), grant: grant.map(FileGrant::new) }
    }

    #[test]
    fn the_latest_grant_counts_and_a_job_without_one_takes_none_away() {
        let grants = Grants::default();
        let digest = fetchable(1, None).digest;
        assert_eq!(grants.of(&digest).grant, None);
        for (given, kept) in [(Some("a"), "a"), (Some("b"), "b"), (None, "b")] {
            grants.keep(&fetchable(1, given));
            assert_eq!(grants.of(&digest), fetchable(1, Some(kept)));
        }
    }

    #[test]
    fn so_many_versions_are_kept_the_latest_of_them() {
        let grants = Grants::default();
        (0..=MAX_KEPT).for_each(|number| grants.keep(&fetchable(number, Some("a"))));
        let kept = grants.lock();
        assert_eq!((kept.by_version.len(), kept.oldest_first.len()), (MAX_KEPT, MAX_KEPT));
        assert!(!kept.by_version.contains_key(&fetchable(0, None).digest));
    }
}
