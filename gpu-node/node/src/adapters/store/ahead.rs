//! Adapters that come before anybody asks for them, and that go when nobody has asked for long.

use std::time::Duration;

use souk_protocol::{Digest, Fetchable};

use super::{AdapterStore, Residency};

/// The shortest time between two looks for what is idle.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(50);
/// The longest.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(30);

/// Adapters in a row that do not come before no more are tried: there is no room, or nobody to fetch them from.
const MOST_MISSED: usize = 3;

impl AdapterStore {
    /// Brings adapters into memory that requests are likely to ask for, one after the other, as many as the limits say and as there is
    /// room for: these, which are asked for most in the pool, and those on disk that were used last. What is in use or was asked
    /// for since keeps its place. Returns how many have come.
    pub async fn prefetch_likely(&self, popular: &[Fetchable]) -> usize {
        let most = self.0.limits.prefetch_at_start;
        popular.iter().take(most).for_each(|adapter| self.keep_grant(adapter));
        let recent = self.0.origin.disk.as_ref().map_or_else(Vec::new, |disk| disk.latest(most));
        let popular: Vec<_> = popular.iter().map(|adapter| adapter.digest).collect();
        let (mut num_come, mut num_missed) = (0, 0);
        for digest in in_turn(&popular, &recent) {
            if num_come >= most || num_missed >= MOST_MISSED {
                break;
            }
            if self.is_resident(&digest) || self.is_taken_down(&digest) {
                continue;
            }
            // What is loaded for requests that wait in the queue has the slots; there is one in a moment.
            let may_begin = |residency: &mut Residency, _| Ok(residency.has_prefetch_slot().then_some(()));
            self.until(None, may_begin).await.expect("looking does not fail");
            self.prefetch(&digest);
            let has_ended = |residency: &mut Residency, _| Ok((!residency.is_coming(&digest)).then_some(()));
            self.until(None, has_ended).await.expect("looking does not fail");
            // There is no room for it, it is damaged, or it cannot be fetched.
            (num_come, num_missed) =
                if self.is_resident(&digest) { (num_come + 1, 0) } else { (num_come, num_missed + 1) };
        }
        num_come
    }

    /// Has adapters leave memory that nobody has asked for within the limits' time, for ever; returns where there is none.
    pub async fn let_idle_go(&self) {
        let Some(idle) = self.0.limits.idle else { return };
        let every = (idle / 4).clamp(LOOK_AT_LEAST_EVERY, LOOK_AT_MOST_EVERY);
        loop {
            tokio::time::sleep(every).await;
            if self.change(|residency, now| residency.let_idle_go(idle, now)) > 0 {
                self.publish();
            }
        }
    }

    fn is_resident(&self, digest: &Digest) -> bool {
        self.0.lock().is_resident(digest)
    }
}

/// First what is in both, which this node has had and is asked for; then the rest of either in turn: what a pool asks for most is not
/// all this node's, and what it had may be asked for no more.
fn in_turn(popular: &[Digest], recent: &[Digest]) -> Vec<Digest> {
    let (both, popular): (Vec<_>, Vec<_>) = popular.iter().copied().partition(|digest| recent.contains(digest));
    let mut recent = recent.iter().copied().filter(|digest| !both.contains(digest));
    let mut order = both.clone();
    for digest in popular {
        order.push(digest);
        order.extend(recent.next());
    }
    order.extend(recent);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_was_here_comes_first_and_then_either_in_turn() {
        let of = |names: &str| names.bytes().map(|name| Digest::of(&[name])).collect::<Vec<_>>();
        for (popular, recent, order) in
            [("abcd", "xcyz", "caxbydz"), ("", "xy", "xy"), ("ab", "", "ab"), ("ab", "ba", "ab"), ("a", "xyz", "axyz")]
        {
            assert_eq!(in_turn(&of(popular), &of(recent)), of(order), "{popular} {recent}");
        }
    }
}
