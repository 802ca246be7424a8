//! What the node is told to do beside its jobs.
//!
//! One call waits for orders; the answer to each heartbeat says which is the newest, so that orders which the waiting
//! call has missed (its connection is dead, the queue lost what it had) are carried out a heartbeat later. Each can be
//! carried out again without harm.

use std::sync::Arc;
use std::time::Duration;

use souk_queue::{NodeOrder, NumberedOrder, OrderNumber};

use super::state::NodeState;
use super::{LONGEST_WAIT, PAUSE_AFTER_ERROR};
use crate::adapters::Pins;

/// How soon an adapter that could not be pinned is tried again.
const PIN_AGAIN: Duration = Duration::from_secs(60);

impl NodeState {
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
        if newest < self.orders.done() {
            // The queue has lost its orders and counts anew.
            self.orders.set_done(OrderNumber::default());
        }
        if newest == self.orders.done() {
            return;
        }
        match self.queue.next_orders(self.config.pool, self.orders.done(), Duration::ZERO).await {
            Ok(orders) => self.carry_out(orders).await,
            Err(error) => tracing::warn!(%error, "cannot hear orders"),
        }
    }

    pub(super) async fn carry_out(&self, orders: Vec<NumberedOrder>) {
        for NumberedOrder { number, order } in orders {
            match order {
                NodeOrder::TakeDown(digest) => {
                    // First the store, so that a job either finds nothing to lease or is held by now.
                    let was_here = self.adapters.take_down(&digest);
                    let num_ended = self.held_jobs.take_down(&digest);
                    // At a start all that was ever taken down is ordered again.
                    if was_here || num_ended > 0 {
                        tracing::info!(adapter.digest = %digest, was_here, jobs = num_ended, "version taken down");
                    }
                }
                NodeOrder::Pin(pinned) => {
                    pinned.iter().for_each(|adapter| self.adapters.keep_grant(adapter));
                    self.orders.pin(pinned.into_iter().map(|adapter| adapter.digest).collect());
                }
                NodeOrder::Drain(node) if node == self.config.node => self.take_no_more().await,
                NodeOrder::Drain(_) => {}
            }
            self.orders.set_done(number);
        }
    }

    /// Keeps the adapters on the device that are to be pinned.
    pub(super) async fn keep_pins(self: Arc<Self>) {
        let mut wanted = self.orders.pinned();
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
