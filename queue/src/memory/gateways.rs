//! What gateways say of themselves and of each other.

use std::time::Duration;

use souk_protocol::{GatewayId, JobFailure, JobId, Outcome};
use tokio::time::Instant;

use super::pool::{Phase, Pool};
use crate::words::{Delivered, Orphan};

impl Pool {
    pub(super) fn gateway_heartbeat(&mut self, gateway: &GatewayId, delivered: &[Delivered], now: Instant) {
        self.unposted.heartbeat(gateway, now);
        for Delivered { job, tokens } in delivered {
            if let Some(record) = self.jobs.get_mut(job) {
                record.delivered = *tokens;
            }
        }
    }

    /// Whether a job has nobody any more who waits for its answer: its gateway is lost, and others can write it down.
    pub(super) fn is_left(&self, id: &JobId, now: Instant) -> bool {
        let submission = self.jobs.get(id).map(|record| &record.submission);
        submission.is_some_and(|submission| {
            submission.account.is_some() && self.unposted.is_lost(&submission.reply_to.gateway, self.silence(), now)
        })
    }

    /// Ends what waits of lost gateways, and gives this one what they have left; `None` if that is nothing.
    pub(super) fn orphans(&mut self, gateway: &GatewayId, now: Instant) -> Option<Vec<Orphan>> {
        for job in self.unposted.left_open(gateway, self.silence(), now) {
            if self.jobs.get(&job).is_some_and(|record| matches!(record.phase, Phase::Queued { .. })) {
                self.dequeue(&job);
                self.end_unsaid(&job, Outcome::CallerLeft, JobFailure::ShuttingDown, now);
            }
        }
        self.unposted.adopt(gateway, self.silence(), now)
    }

    fn silence(&self) -> Duration {
        self.config.heartbeat_timeout
    }
}
