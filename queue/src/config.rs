//! The section `[queue]` of the settings.

use std::time::Duration;

use serde::Deserialize;
use souk_protocol::settings::{self, Checks, count_or_none, milliseconds, seconds};

/// Caps and times of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {
    /// Most jobs of one tenant that wait in one pool.
    pub max_queued_per_tenant: usize,
    /// Most jobs that wait in one pool. An eighth is kept for tenants of whom none waits, and while one is refused the
    /// others may have an even part at most.
    pub max_queued: usize,
    /// Most jobs of one tenant that wait or run in one pool; `None` sets no such cap.
    #[serde(deserialize_with = "count_or_none::deserialize")]
    pub max_in_flight_per_tenant: Option<usize>,
    /// How long a delivery is the node's without renewal. Nodes renew at a third of it.
    #[serde(rename = "lease_s", deserialize_with = "seconds::deserialize")]
    pub lease: Duration,
    /// A node that was silent for this long is taken for lost: its lane is everyone's.
    #[serde(rename = "heartbeat_timeout_s", deserialize_with = "seconds::deserialize")]
    pub heartbeat_timeout: Duration,
    /// A lane is behind when its oldest job has waited for this long: idle nodes may then take from it.
    #[serde(rename = "steal_after_ms", deserialize_with = "milliseconds::deserialize")]
    pub steal_after: Duration,
    /// A job that was delivered this often without an end goes to the dead letters.
    pub max_deliveries: u32,
    /// How long a job that is over is remembered, so that submitting it again has no effect.
    #[serde(rename = "remember_over_s", deserialize_with = "seconds::deserialize")]
    pub remember_over: Duration,
    /// Price of a generated token in the fair share, where a prompt token costs 1.
    pub output_token_cost: f64,
}

impl Default for QueueConfig {
    fn default() -> Self {
        settings::defaults("queue")
    }
}

impl QueueConfig {
    /// Checks that each value can be used, alone and with the others.
    pub fn check(&self, checks: &mut Checks) {
        checks.at_least("queue.max_queued_per_tenant", self.max_queued_per_tenant, 1);
        checks.at_least("queue.max_queued", self.max_queued, 1);
        checks.within("queue.lease_s", self.lease.as_secs(), 1..=3600);
        // Nodes say each second that they live.
        checks.within("queue.heartbeat_timeout_s", self.heartbeat_timeout.as_secs(), 2..=3600);
        checks.within("queue.steal_after_ms", self.steal_after.as_millis(), 0..=3_600_000);
        checks.within("queue.max_deliveries", self.max_deliveries, 1..=1000);
        checks.within("queue.remember_over_s", self.remember_over.as_secs(), 1..=86_400);
        checks.within("queue.output_token_cost", self.output_token_cost, 0.0..=1e6);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        let mut checks = Checks::default();
        QueueConfig::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
    }
}
