//! How far the node is with its orders.

use std::sync::atomic::{AtomicU64, Ordering};

use souk_protocol::Digest;
use souk_queue::OrderNumber;
use tokio::sync::watch;

pub(super) struct Orders {
    /// The number of the last one that was carried out.
    done: AtomicU64,
    pinned: watch::Sender<Vec<Digest>>,
}

impl Default for Orders {
    fn default() -> Self {
        Self { done: AtomicU64::new(0), pinned: watch::Sender::new(Vec::new()) }
    }
}

impl Orders {
    /// The last order that was carried out.
    pub(super) fn done(&self) -> OrderNumber {
        OrderNumber(self.done.load(Ordering::Acquire))
    }

    pub(super) fn set_done(&self, number: OrderNumber) {
        self.done.store(number.0, Ordering::Release);
    }

    /// Says which adapters are to be pinned.
    pub(super) fn pin(&self, digests: Vec<Digest>) {
        self.pinned.send_replace(digests);
    }

    /// Hears which adapters are to be pinned.
    pub(super) fn pinned(&self) -> watch::Receiver<Vec<Digest>> {
        self.pinned.subscribe()
    }
}
