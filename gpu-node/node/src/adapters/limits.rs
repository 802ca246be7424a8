//! What bounds the tiers.

use std::time::Duration;

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
    /// Pause after a first failed load; doubles with each further failure.
    pub first_retry_pause: Duration,
    /// Longest pause after failed loads.
    pub longest_retry_pause: Duration,
    /// After this time without a request an adapter counts half as popular.
    pub popularity_half_life: Duration,
}

impl Default for AdapterLimits {
    /// 64 MB on the device is about 70 adapters of rank 8 on q and v of a model of 135 million parameters.
    fn default() -> Self {
        Self {
            device_bytes: 64 << 20,
            host_bytes: 256 << 20,
            max_concurrent_loads: 2,
            max_prefetches: 1,
            max_wait: Duration::from_secs(30),
            first_retry_pause: Duration::from_millis(500),
            longest_retry_pause: Duration::from_secs(30),
            popularity_half_life: Duration::from_secs(300),
        }
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
