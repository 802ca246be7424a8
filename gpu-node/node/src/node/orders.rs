//! What the node is told to do beside its jobs.
//!
//! One call waits for orders; the answer to each heartbeat says which is the newest, so that orders which the waiting call
//! has missed (its connection is dead, the queue lost what it had) are carried out a heartbeat later. Each can be carried
//! out again without harm.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use souk_protocol::Digest;
use souk_queue::{NodeOrder, NumberedOrder, OrderNumber};
use tokio::sync::watch;

use super::{LONGEST_WAIT, PAUSE_AFTER_ERROR, Shared};
use crate::adapters::Pins;

/// How soon an adapter that could not be pinned is tried again.
const PIN_AGAIN: Duration = Duration::from_secs(60);

/// How far the node is with its orders.
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
    /// As if all orders up to this one were carried out.
    #[cfg(test)]
    pub(super) fn skip_to(&self, number: OrderNumber) {
        self.done.store(number.0, Ordering::Release);
    }

    fn done(&self) -> OrderNumber {
        OrderNumber(self.done.load(Ordering::Acquire))
    }
}

impl Shared {
    /// Carries orders out as they come.
    pub(super) async fn hear_orders(self: Arc<Self>) {
        loop {
            match self.queue.next_orders(self.config.pool, self.orders.done(), LONGEST_WAIT).await {
                Ok(orders) => self.carry_out(orders).await,
                Err(error) => {
                    tracing::warn!(%error, "cannot hear orders");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    /// Carries out what was missed, if the newest order is not the last one that was carried out.
    pub(super) async fn catch_up(&self, newest: OrderNumber) {
        let done = self.orders.done();
        if newest == done {
            return;
        }
        // A smaller number: the queue has lost its orders and counts anew.
        let after = if newest < done { OrderNumber::default() } else { done };
        match self.queue.next_orders(self.config.pool, after, Duration::ZERO).await {
            Ok(orders) => self.carry_out(orders).await,
            Err(error) => tracing::warn!(%error, "cannot hear orders"),
        }
    }

    async fn carry_out(&self, orders: Vec<NumberedOrder>) {
        for NumberedOrder { number, order } in orders {
            match order {
                NodeOrder::TakeDown(digest) => {
                    // First the store, so that a job either finds nothing to lease or is on the books by now.
                    let was_here = self.adapters.take_down(&digest);
                    let num_ended = self.books.take_down(&digest);
                    tracing::info!(adapter.digest = %digest, was_here, jobs = num_ended, "version taken down");
                }
                NodeOrder::Pin(digests) => drop(self.orders.pinned.send_replace(digests)),
                NodeOrder::Drain(node) if node == self.config.node => self.take_no_more().await,
                NodeOrder::Drain(_) => {}
            }
            self.orders.done.store(number.0, Ordering::Release);
        }
    }

    /// Keeps the adapters on the device that are to be pinned.
    pub(super) async fn keep_pins(self: Arc<Self>) {
        let mut wanted = self.orders.pinned.subscribe();
        let mut pins = Pins::new(self.adapters.clone());
        let mut told = Vec::new();
        loop {
            let digests = wanted.borrow_and_update().clone();
            let refused = pins.set(&digests).await;
            let refused: Vec<_> = refused.into_iter().map(|(digest, error)| (digest, error.to_string())).collect();
            // Each problem is told when it appears, not each time it is found again.
            for (digest, problem) in refused.iter().filter(|problem| !told.contains(*problem)) {
                tracing::warn!(adapter.digest = %digest, "an adapter is not pinned: {problem}");
            }
            told = refused;
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = pins.drop_taken_down() => {}
                () = tokio::time::sleep(PIN_AGAIN), if !told.is_empty() => {}
            }
        }
    }
}
