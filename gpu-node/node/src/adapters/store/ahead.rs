//! Adapters that come before anybody asks for them, and that go when nobody has asked for long.

use std::time::Duration;

use souk_protocol::Digest;

use super::{AdapterStore, Residency};

/// The shortest time between two looks for what is idle.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(50);
/// The longest.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(30);

impl AdapterStore {
    /// Brings the adapters on disk that were used last into memory, one after the other, as many as the limits say and as there is
    /// room for: what was popular before a restart is so after it. What is in use or was asked
    /// for since keeps its place. Returns how many have come.
    pub async fn prefetch_recent(&self) -> usize {
        let Some(disk) = &self.0.origin.disk else { return 0 };
        let mut num_come = 0;
        for digest in disk.latest(self.0.limits.prefetch_at_start) {
            if self.is_resident(&digest) || self.is_taken_down(&digest) {
                continue;
            }
            // What is loaded for requests that wait in the queue has the slots; there is one in a moment.
            let may_begin = |residency: &mut Residency, _| Ok(residency.has_prefetch_slot().then_some(()));
            self.until(None, may_begin).await.expect("looking does not fail");
            self.prefetch(&digest);
            let has_ended = |residency: &mut Residency, _| Ok((!residency.is_coming(&digest)).then_some(()));
            self.until(None, has_ended).await.expect("looking does not fail");
            if !self.is_resident(&digest) {
                // There is no room for it, or it is damaged; those that follow were used less.
                break;
            }
            num_come += 1;
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
