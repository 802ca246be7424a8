//! Two sights of the same thing, some time apart by the monotonic clock.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Things that were seen, each with what was seen of it and when it was first seen so.
pub(super) struct Sights<Name, Look> {
    apart: Duration,
    first: HashMap<Name, (Look, Instant)>,
}

impl<Name: Clone + Eq + Hash, Look: Clone + PartialEq> Sights<Name, Look> {
    pub(super) fn new(apart: Duration) -> Self {
        Self { apart, first: HashMap::new() }
    }

    /// Takes everything that is seen now; answers what has looked the same since at least `apart` ago. What is not seen
    /// now, or looks otherwise, begins anew.
    pub(super) fn twice(&mut self, now: impl IntoIterator<Item = (Name, Look)>) -> Vec<(Name, Look)> {
        let mut before = std::mem::take(&mut self.first);
        let mut old_enough = Vec::new();
        for (name, look) in now {
            let known = before.remove(&name).filter(|(known, _)| *known == look);
            let since = known.map_or_else(Instant::now, |(_, since)| since);
            if since.elapsed() >= self.apart {
                old_enough.push((name.clone(), look.clone()));
            }
            self.first.insert(name, (look, since));
        }
        old_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_what_looks_the_same_for_long_enough_is_answered() {
        let mut sights = Sights::new(Duration::from_secs(5));
        assert!(sights.twice([("a", 1), ("b", 1)]).is_empty());
        tokio::time::advance(Duration::from_secs(4)).await;
        assert!(sights.twice([("a", 1), ("b", 2)]).is_empty());
        tokio::time::advance(Duration::from_secs(2)).await;
        // `b` looked otherwise in between: its lease was renewed.
        assert_eq!(sights.twice([("a", 1), ("b", 2)]), [("a", 1)]);
        tokio::time::advance(Duration::from_secs(5)).await;
        // `a` was gone for a while, and begins anew.
        assert_eq!(sights.twice([("b", 2)]), [("b", 2)]);
        assert_eq!(sights.twice([("a", 1), ("b", 2)]), [("b", 2)]);
    }
}
