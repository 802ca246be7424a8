//! How far a node has come since its start, for whoever waits for it or says whether it is ready.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::time::Instant;

/// Moments that come once, and whether the queue knows the node now.
pub(super) struct Milestones {
    queue_reached: watch::Sender<Option<Instant>>,
    first_claim: watch::Sender<Option<Instant>>,
    is_registered: AtomicBool,
}

impl Default for Milestones {
    fn default() -> Self {
        let (queue_reached, first_claim) = (watch::Sender::new(None), watch::Sender::new(None));
        Self { queue_reached, first_claim, is_registered: AtomicBool::new(false) }
    }
}

impl Milestones {
    /// A heartbeat was taken by the queue, or was not.
    pub(super) fn beat(&self, was_taken: bool) {
        self.is_registered.store(was_taken, Ordering::Release);
        if was_taken {
            pass(&self.queue_reached);
        }
    }

    /// Jobs were claimed.
    pub(super) fn claimed(&self) {
        pass(&self.first_claim);
    }

    /// Whether the queue took the last heartbeat.
    pub(super) fn is_registered(&self) -> bool {
        self.is_registered.load(Ordering::Acquire)
    }

    /// When the queue first took one; waits for it.
    pub(super) async fn queue_reached(&self) -> Instant {
        passed(&self.queue_reached).await
    }

    /// When jobs were first claimed; waits for it.
    pub(super) async fn first_claim(&self) -> Instant {
        passed(&self.first_claim).await
    }
}

fn pass(milestone: &watch::Sender<Option<Instant>>) {
    milestone.send_if_modified(|at| {
        let is_first = at.is_none();
        at.get_or_insert_with(Instant::now);
        is_first
    });
}

async fn passed(milestone: &watch::Sender<Option<Instant>>) -> Instant {
    let mut at = milestone.subscribe();
    let at = at.wait_for(Option::is_some).await.expect("the sender is borrowed");
    (*at).expect("it was waited for")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moment_comes_once_and_whether_the_queue_knows_the_node_changes() {
        let milestones = Milestones::default();
        assert!(!milestones.is_registered());
        milestones.beat(false);
        tokio::time::timeout(Duration::from_secs(1), milestones.queue_reached()).await.unwrap_err();
        milestones.beat(true);
        let reached = milestones.queue_reached().await;
        tokio::time::advance(Duration::from_secs(1)).await;
        milestones.beat(true);
        assert_eq!((milestones.queue_reached().await, milestones.is_registered()), (reached, true));
        milestones.beat(false);
        assert!(!milestones.is_registered());
        milestones.claimed();
        assert!(milestones.first_claim().await > reached);
    }
}
