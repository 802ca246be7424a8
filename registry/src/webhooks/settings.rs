//! The section `[registry.webhooks]` of the settings.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use souk_http::serve::Networks;
use souk_protocol::settings::{Checks, milliseconds, seconds};

/// How webhooks are delivered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Endpoints of a tenant.
    pub max_endpoints_per_tenant: usize,
    /// Deliveries that this process makes at once, shared between tenants.
    pub max_concurrent: usize,
    /// For a connection, TLS included.
    #[serde(rename = "connect_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub connect_timeout: Duration,
    /// For a whole delivery, to the end of what is read of its answer.
    #[serde(rename = "timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub timeout: Duration,
    /// Bytes of an answer that are kept for the endpoint's owner to see; no more are read.
    pub max_answer_bytes: usize,
    /// About how long after the first try the second comes; each further pause is twice as long.
    #[serde(rename = "first_retry_s", deserialize_with = "seconds::deserialize")]
    pub first_retry: Duration,
    /// The longest of these pauses.
    #[serde(rename = "longest_retry_s", deserialize_with = "seconds::deserialize")]
    pub longest_retry: Duration,
    /// How old a delivery may become before it is given up.
    #[serde(rename = "retry_for_s", deserialize_with = "seconds::deserialize")]
    pub retry_for: Duration,
    /// How long an endpoint may do nothing but fail before it is paused.
    #[serde(rename = "pause_after_s", deserialize_with = "seconds::deserialize")]
    pub pause_after: Duration,
    /// How long the secret before signs too.
    #[serde(rename = "secret_overlap_s", deserialize_with = "seconds::deserialize")]
    pub secret_overlap: Duration,
    /// Whether an endpoint may be reached without TLS.
    pub allow_http: bool,
    /// Networks that endpoints may be in beside the public ones.
    #[serde(deserialize_with = "networks")]
    pub allowed_networks: Networks,
    /// How often due deliveries are looked for.
    #[serde(rename = "look_every_ms", deserialize_with = "milliseconds::deserialize")]
    pub look_every: Duration,
}

impl WebhookSettings {
    /// Says which of them cannot be used.
    pub(crate) fn check(&self, checks: &mut Checks) {
        let (day_s, second_ms) = (24 * 3600, 1000);
        checks.within("registry.webhooks.max_endpoints_per_tenant", self.max_endpoints_per_tenant, 1..=1000);
        checks.within("registry.webhooks.max_concurrent", self.max_concurrent, 1..=4096);
        let connect_ms = self.connect_timeout.as_millis();
        checks.within("registry.webhooks.connect_timeout_ms", connect_ms, 10..=60 * second_ms);
        let timeout_ms = self.timeout.as_millis();
        checks.within("registry.webhooks.timeout_ms", timeout_ms, 10..=120 * second_ms);
        checks.no_more_than(
            "registry.webhooks.connect_timeout_ms",
            connect_ms,
            "registry.webhooks.timeout_ms",
            timeout_ms,
        );
        checks.within("registry.webhooks.max_answer_bytes", self.max_answer_bytes, 0..=65_536);
        let first_s = self.first_retry.as_secs();
        checks.within("registry.webhooks.first_retry_s", first_s, 1..=3600);
        let longest_s = self.longest_retry.as_secs();
        checks.within("registry.webhooks.longest_retry_s", longest_s, 1..=7 * day_s);
        checks.no_more_than("registry.webhooks.first_retry_s", first_s, "registry.webhooks.longest_retry_s", longest_s);
        checks.within("registry.webhooks.retry_for_s", self.retry_for.as_secs(), 1..=30 * day_s);
        checks.within("registry.webhooks.pause_after_s", self.pause_after.as_secs(), 1..=365 * day_s);
        checks.within("registry.webhooks.secret_overlap_s", self.secret_overlap.as_secs(), 0..=30 * day_s);
        checks.within("registry.webhooks.look_every_ms", self.look_every.as_millis(), 10..=60 * second_ms);
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Networks, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    Networks::parse(&texts).map_err(|error| D::Error::custom(format!("registry.webhooks.allowed_networks: {error}")))
}
