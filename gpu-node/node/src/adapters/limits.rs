//! What bounds the tiers.

use std::time::Duration;

use serde::Deserialize;
use souk_protocol::AdapterRef;
use souk_protocol::settings::{self, Checks, mebibytes, mebibytes_or_none, milliseconds, seconds};

/// Budgets and times of an adapter store. [`Self::check`] says which combinations make sense.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdapterLimits {
    /// Bytes of adapters that the model can run at one moment. On the CPU the device is main memory: an adapter in both
    /// tiers is one allocation, and this budget is a share of `host_bytes`, not memory beside it.
    pub device_bytes: usize,
    /// Bytes of packed adapters in main memory, those on the device included.
    pub host_bytes: usize,
    /// Adapters that are read and packed at the same time. Each takes memory for its file beside the budgets.
    pub max_concurrent_loads: usize,
    /// Adapters that are loaded ahead of their requests at the same time, beside the other loads; 0 for none.
    pub max_prefetches: usize,
    /// How long a request waits for a load and for room, in all.
    pub max_wait: Duration,
    /// How long reading an adapter may take, from disk or from its source. Then the load fails and its slot is another's.
    pub load_timeout: Duration,
    /// Pause after a first failed load; doubles with each further failure.
    pub first_retry_pause: Duration,
    /// Longest pause after failed loads.
    pub longest_retry_pause: Duration,
    /// After this time without a request an adapter counts half as popular.
    pub popularity_half_life: Duration,
    /// After this time without a request an adapter leaves memory; `None`: never.
    pub idle: Option<Duration>,
    /// Adapters that are brought into memory at the start.
    pub prefetch_at_start: usize,
}

/// The section `[adapters]` of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterSettings {
    /// Most bytes of adapters that can act in a step; `None`: only the pool and `host_bytes` bound them.
    #[serde(rename = "device_mb", deserialize_with = "mebibytes_or_none::deserialize")]
    pub device_bytes: Option<usize>,
    /// Bytes of packed adapters in main memory, those on the device included.
    #[serde(rename = "host_mb", deserialize_with = "mebibytes::deserialize")]
    pub host_bytes: usize,
    /// Adapters that are read and packed at the same time.
    pub max_concurrent_loads: usize,
    /// Adapters that are loaded ahead of their requests at the same time; 0 for none.
    pub max_prefetches: usize,
    /// Bytes of packed adapters on disk; 0: there is no such tier.
    #[serde(rename = "disk_mb", deserialize_with = "mebibytes::deserialize")]
    pub disk_bytes: u64,
    /// Adapters that stay on the device whatever happens.
    pub pinned: Vec<AdapterRef>,
    /// How long a request waits for a load and for room, in all.
    #[serde(rename = "max_wait_ms", deserialize_with = "milliseconds::deserialize")]
    pub max_wait: Duration,
    /// How long reading an adapter may take, from disk or from its source.
    #[serde(rename = "load_timeout_ms", deserialize_with = "milliseconds::deserialize")]
    pub load_timeout: Duration,
    /// Pause after a first failed load; doubles with each further failure.
    #[serde(rename = "first_retry_pause_ms", deserialize_with = "milliseconds::deserialize")]
    pub first_retry_pause: Duration,
    /// Longest pause after failed loads.
    #[serde(rename = "longest_retry_pause_s", deserialize_with = "seconds::deserialize")]
    pub longest_retry_pause: Duration,
    /// After this time without a request an adapter counts half as popular.
    #[serde(rename = "popularity_half_life_s", deserialize_with = "seconds::deserialize")]
    pub popularity_half_life: Duration,
    /// After this time without a request an adapter leaves memory; zero: never.
    #[serde(rename = "idle_s", deserialize_with = "seconds::deserialize")]
    pub idle: Duration,
    /// Adapters that are brought into memory at the start, those that are asked for and those on disk that were used last; 0 for
    /// none.
    pub prefetch_at_start: usize,
}

impl Default for AdapterSettings {
    fn default() -> Self {
        settings::defaults("adapters")
    }
}

impl AdapterSettings {
    /// Checks that each value can be used, alone and with the others.
    pub fn check(&self, checks: &mut Checks) {
        let host = self.host_bytes >> 20;
        checks.at_least("adapters.host_mb", host, 1);
        if let Some(device_bytes) = self.device_bytes {
            checks.no_more_than("adapters.device_mb", device_bytes >> 20, "adapters.host_mb", host);
        }
        checks.within("adapters.max_concurrent_loads", self.max_concurrent_loads, 1..=1024);
        checks.within("adapters.max_prefetches", self.max_prefetches, 0..=1024);
        checks.within("adapters.load_timeout_ms", self.load_timeout.as_millis(), 100..=3_600_000);
        checks.at_least("adapters.first_retry_pause_ms", self.first_retry_pause.as_millis(), 1);
        checks.at_least("adapters.popularity_half_life_s", self.popularity_half_life.as_secs(), 1);
        checks.within("adapters.idle_s", self.idle.as_secs(), 0..=86_400);
        checks.within("adapters.prefetch_at_start", self.prefetch_at_start, 0..=1024);
        let (first, longest) = (self.first_retry_pause.as_millis(), self.longest_retry_pause.as_millis());
        checks.no_more_than("adapters.first_retry_pause_ms", first, "adapters.longest_retry_pause_s in ms", longest);
    }

    /// The most that the device may hold as far as these settings go. What is there is in main memory too, so the
    /// host's budget bounds it as well.
    #[must_use]
    pub fn device_cap_bytes(&self) -> usize {
        self.device_bytes.unwrap_or(self.host_bytes)
    }

    /// The limits of a store whose device holds `device_bytes` of adapters.
    #[must_use]
    pub const fn limits(&self, device_bytes: usize) -> AdapterLimits {
        AdapterLimits {
            device_bytes,
            host_bytes: self.host_bytes,
            max_concurrent_loads: self.max_concurrent_loads,
            max_prefetches: self.max_prefetches,
            max_wait: self.max_wait,
            load_timeout: self.load_timeout,
            first_retry_pause: self.first_retry_pause,
            longest_retry_pause: self.longest_retry_pause,
            popularity_half_life: self.popularity_half_life,
            idle: if self.idle.is_zero() { None } else { Some(self.idle) },
            prefetch_at_start: if self.max_prefetches == 0 { 0 } else { self.prefetch_at_start },
        }
    }
}

impl Default for AdapterLimits {
    /// Those of the settings' page, on a device without a pool.
    fn default() -> Self {
        let settings = AdapterSettings::default();
        settings.limits(settings.device_cap_bytes())
    }
}

/// Limits that contradict themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// The tiers are inclusive: what is on the device is in main memory too.
    #[error("the host tier must be at least as large as the device tier; given {host_bytes} and {device_bytes} bytes")]
    HostBelowDevice {
        /// The host budget.
        host_bytes: usize,
        /// The device budget.
        device_bytes: usize,
    },
    /// A limit that must be above zero is zero.
    #[error("{0} must be above zero")]
    Zero(&'static str),
}

impl AdapterLimits {
    /// Checks the limits against each other.
    ///
    /// # Errors
    /// [`LimitsError`] naming the limit.
    pub fn check(&self) -> Result<(), LimitsError> {
        if self.host_bytes < self.device_bytes {
            let (host_bytes, device_bytes) = (self.host_bytes, self.device_bytes);
            return Err(LimitsError::HostBelowDevice { host_bytes, device_bytes });
        }
        if self.max_concurrent_loads == 0 {
            return Err(LimitsError::Zero("max_concurrent_loads"));
        }
        if self.popularity_half_life.is_zero() {
            return Err(LimitsError::Zero("popularity_half_life"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(settings: &AdapterSettings) -> Option<String> {
        let mut checks = Checks::default();
        settings.check(&mut checks);
        checks.finish().err().map(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        assert_eq!(problems(&AdapterSettings::default()), None);
        assert_eq!(AdapterLimits::default().check(), Ok(()));
    }

    #[test]
    fn a_device_larger_than_the_host_is_told_with_both_numbers() {
        let settings = AdapterSettings { device_bytes: Some(300 << 20), ..AdapterSettings::default() };
        let expected = "adapters.device_mb must be at most adapters.host_mb, which is 256; given 300";
        assert_eq!(problems(&settings).as_deref(), Some(expected));
    }
}
