//! What an order does to jobs.

use souk_protocol::{JobFailure, JobId, Outcome};
use tokio::time::Instant;

use super::pool::{Phase, Pool};
use crate::words::NodeOrder;

impl Pool {
    pub(super) fn order(&mut self, order: NodeOrder, now: Instant) {
        self.rings.orders = self.orders.post(order);
        let waiting = self.jobs.iter().filter(|(_, record)| matches!(record.phase, Phase::Queued { .. }));
        let ids: Vec<_> = waiting.map(|(id, _)| id).filter(|id| self.is_taken_down(id)).cloned().collect();
        for id in ids {
            self.dequeue(&id);
            self.end_unsaid(&id, Outcome::TakenDown, JobFailure::TakenDown, now);
        }
    }

    /// Whether a job uses a version that was taken down.
    pub(super) fn is_taken_down(&self, id: &JobId) -> bool {
        let adapters = self.jobs.get(id).map(|record| &record.submission.job.adapters);
        adapters.is_some_and(|adapters| adapters.iter().any(|adapter| self.orders.is_taken_down(&adapter.digest)))
    }
}
