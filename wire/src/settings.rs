//! The section `[wire]` of the settings.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use souk_protocol::settings::{self, Checks, mebibytes, milliseconds};

/// Times and bounds of the streams between nodes and gateways.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireSettings {
    /// A stream on which nothing came for so long is given up, and what ran on it is taken back. Both sides go by what the
    /// gateway says, and say four times as often that they live.
    #[serde(rename = "silence_ms", deserialize_with = "milliseconds::deserialize")]
    pub silence: Duration,
    /// How long one try of a node to reach a gateway may take, hellos included.
    #[serde(rename = "dial_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub dial_timeout: Duration,
    /// A node that reaches a gateway in no try for so long gives that gateway's jobs back.
    #[serde(rename = "give_up_ms", deserialize_with = "milliseconds::deserialize")]
    pub give_up: Duration,
    /// A stream without a job is closed after so long.
    #[serde(rename = "idle_ms", deserialize_with = "milliseconds::deserialize")]
    pub idle: Duration,
    /// Bytes that may wait on a node for one gateway; past it that gateway's stream ends.
    #[serde(rename = "max_unsent_mb", deserialize_with = "mebibytes::deserialize")]
    pub max_unsent_bytes: usize,
    /// A file of certificates (PEM) of authorities that a node trusts beside the system's; empty: those alone.
    pub root_cert: PathBuf,
    /// A file with the certificates and the key (PEM) that a node shows where it dials, for a gateway, or a proxy before it,
    /// that asks for one; empty: none.
    pub client_cert: PathBuf,
}

/// Settings with which a node can dial nobody.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file of certificates cannot be read.
    #[error("{setting} {path} cannot be read: {cause}")]
    Certificates {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// The HTTP client cannot be set up.
    #[error("the client for gateways cannot be set up")]
    Client(#[source] reqwest::Error),
}

impl Default for WireSettings {
    fn default() -> Self {
        settings::defaults("wire")
    }
}

impl WireSettings {
    /// Checks that each value can be used.
    pub fn check(&self, checks: &mut Checks) {
        checks.within("wire.silence_ms", self.silence.as_millis(), 100..=60_000);
        checks.within("wire.dial_timeout_ms", self.dial_timeout.as_millis(), 10..=60_000);
        checks.within("wire.give_up_ms", self.give_up.as_millis(), 10..=600_000);
        checks.within("wire.idle_ms", self.idle.as_millis(), 1000..=86_400_000);
        checks.within("wire.max_unsent_mb", self.max_unsent_bytes >> 20, 1..=4096);
    }

    /// How often each side says that it lives.
    #[must_use]
    pub fn alive_every(silence: Duration) -> Duration {
        silence / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        let mut checks = Checks::default();
        WireSettings::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
        assert_eq!(WireSettings::default().silence, Duration::from_secs(2), "docs/fleet.md says so");
    }
}
