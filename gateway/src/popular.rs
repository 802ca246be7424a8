//! Which adapters a pool's requests ask for, told to the queue with what their files are fetched with: a node that starts brings
//! them into memory before anybody asks it.
//!
//! What happens when: what this gateway says no more, since it has ended or nobody asks, is forgotten by the queue within a minute,
//! and by itself as the router's counts fade. Grants are those of the latest requests, so they have most of their 15 minutes left. A node
//! that could reach the queue could read them in jobs as well; it learns no more than which adapters are asked for most.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use souk_protocol::{AdapterUse, Digest, Fetchable, FileGrant};
use souk_queue::{MOST_POPULAR_NAMED, Popular};

/// How often the queue is told. Soon enough for a node that is started since others are full.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(5);
/// Most grants that are held between two tellings; past it those that come are not popular yet, or come again.
const MAX_HELD: usize = 4096;

/// What is needed to tell it: the latest grant of each adapter that was asked for. The lock is held for a look.
#[derive(Debug, Default)]
pub(crate) struct Popularity(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    grants: HashMap<Digest, Option<FileGrant>>,
    /// Whether anything was told that has not been taken back by telling of nothing.
    has_told: bool,
}

impl Popularity {
    /// An adapter is asked for.
    pub(crate) fn asked(&self, adapter: &AdapterUse) {
        let mut held = self.lock();
        let has_room = held.grants.len() < MAX_HELD;
        match held.grants.get_mut(&adapter.digest) {
            // Requests of the same second share their grant.
            Some(grant) if *grant == adapter.grant => {}
            Some(grant) => grant.clone_from(&adapter.grant),
            None if has_room => drop(held.grants.insert(adapter.digest, adapter.grant.clone())),
            None => {}
        }
    }

    /// What to tell the queue, where these are asked for most; `None`: nothing is news. What is not among them is let go of.
    pub(crate) fn tell(&self, most_asked: &[(Digest, f64)]) -> Option<Vec<Popular>> {
        let mut held = self.lock();
        let popular = most_asked.iter().take(MOST_POPULAR_NAMED).filter_map(|(digest, jobs)| {
            let grant = held.grants.get(digest)?.clone();
            Some(Popular { adapter: Fetchable { digest: *digest, grant }, jobs: *jobs })
        });
        let popular: Vec<_> = popular.collect();
        held.grants = popular.iter().map(|one| (one.adapter.digest, one.adapter.grant.clone())).collect();
        let is_news = held.has_told || !popular.is_empty();
        held.has_told = !popular.is_empty();
        is_news.then_some(popular)
    }

    /// What was told did not arrive.
    pub(crate) fn was_not_told(&self) {
        self.lock().has_told = true;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: usize, grant: &str) -> AdapterUse {
        AdapterUse { digest: Digest::of(&name.to_le_bytes()), weight: 1.0, grant: Some(FileGrant::new(grant)) }
    }

    #[test]
    fn the_latest_grant_is_told_and_an_end_is_told_once() {
        let popularity = Popularity::default();
        assert_eq!(popularity.tell(&[]), None);
        popularity.asked(&adapter(1, "old"));
        popularity.asked(&adapter(1, "new"));
        popularity.asked(&adapter(2, "another"));
        let one = adapter(1, "new");
        let told = popularity.tell(&[(one.digest, 2.0), (Digest::of(b"by another process"), 1.0)]).unwrap();
        assert_eq!(told, [Popular { adapter: Fetchable::from(&one), jobs: 2.0 }]);
        assert_eq!(popularity.lock().grants.len(), 1, "what is not popular is let go of");
        assert_eq!(popularity.tell(&[]), Some(Vec::new()));
        assert_eq!(popularity.tell(&[]), None);
        popularity.was_not_told();
        assert_eq!(popularity.tell(&[]), Some(Vec::new()));
    }

    #[test]
    fn however_many_are_asked_for_so_many_are_held() {
        let popularity = Popularity::default();
        (0..MAX_HELD + 9).for_each(|name| popularity.asked(&adapter(name, "grant")));
        assert_eq!(popularity.lock().grants.len(), MAX_HELD);
        popularity.asked(&adapter(0, "new"));
        let told = popularity.tell(&[(adapter(0, "").digest, 1.0)]).unwrap();
        assert_eq!(told[0].adapter.grant, adapter(0, "new").grant);
    }
}
