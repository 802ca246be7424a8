//! The section `[registry]` of the settings.

use std::time::Duration;

use serde::Deserialize;
use souk_protocol::settings::{self, Checks, seconds};

/// Bounds on uploads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadLimits {
    /// Bytes of the largest `adapter_model.safetensors`. A rank-64 adapter on all layers of an 8B model has about 330 MB in
    /// BF16.
    pub max_adapter_bytes: u64,
    /// Bytes of the largest model card.
    pub max_card_bytes: u64,
    /// Uploads that may run at once in this process; more are told to come back. Each holds up to 8 MiB of the body
    /// and one file handle.
    pub max_concurrent_uploads: usize,
    /// An upload that sends nothing for this long is given up.
    #[serde(rename = "upload_idle_timeout_s", deserialize_with = "seconds::deserialize")]
    pub upload_idle_timeout: Duration,
}

impl Default for UploadLimits {
    fn default() -> Self {
        settings::defaults("registry")
    }
}

impl UploadLimits {
    /// Says which of them cannot be used.
    pub fn check(&self, checks: &mut Checks) {
        checks.at_least("registry.max_adapter_bytes", self.max_adapter_bytes, 1);
        // The card is held in memory while it is read.
        checks.within("registry.max_card_bytes", self.max_card_bytes, 0..=64 << 20);
        checks.within("registry.max_concurrent_uploads", self.max_concurrent_uploads, 1..=4096);
        checks.within("registry.upload_idle_timeout_s", self.upload_idle_timeout.as_secs(), 1..=3600);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        let mut checks = Checks::default();
        UploadLimits::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
    }
}
