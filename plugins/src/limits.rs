//! What one hook may take.

use std::time::Duration;

use serde::Deserialize;
use souk_protocol::hooks::{HookLimit, HookLimits};
use souk_protocol::settings::{Checks, mebibytes, milliseconds};

/// Longest carry from a hook's `prompt` to its own `answer` and `stream`, in bytes: the interface says so.
pub const MAX_CARRY_BYTES: usize = 64 << 10;
/// Most bytes that `random` gives at once: the interface says so.
pub const MAX_RANDOM_BYTES: u32 = 4096;
/// Core instances in a component. Python's have 38.
pub(crate) const MAX_INSTANCES: usize = 64;
/// Memories in a component: one for each module with a runtime of its own.
pub(crate) const MAX_MEMORIES: usize = 8;
/// Tables in a component.
pub(crate) const MAX_TABLES: usize = 64;
/// Handles of resources that a hook may have at once. A stream is one; the host makes no other.
pub(crate) const MAX_HANDLES: usize = 256;

/// Bounds of a call, or of all calls of a stream: the sections `[hooks.limits]` and `[hooks.ceiling]` of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, of all its parts together.
    #[serde(rename = "memory_mb", deserialize_with = "mebibytes::deserialize")]
    pub memory_bytes: usize,
    /// Entries of its tables.
    pub max_table_elements: usize,
    /// Bytes of what a call is given.
    pub max_input_bytes: usize,
    /// Bytes of what a call gives back.
    pub max_output_bytes: usize,
    /// Calls of the host within a call.
    pub max_host_calls: u32,
    /// Bytes that go through those.
    pub max_host_bytes: usize,
    /// Bytes of texts whose tokens are counted within a call.
    pub max_counted_bytes: usize,
    /// Lines of the log that are kept of a call.
    pub max_log_lines: usize,
    /// Bytes of those.
    pub max_log_bytes: usize,
    /// Fuel of a call: about one for each instruction.
    pub max_fuel: u64,
    /// Fuel of all calls of a stream together.
    pub max_stream_fuel: u64,
    /// Processor time of a call, for what fuel does not count.
    #[serde(rename = "processor_ms", deserialize_with = "milliseconds::deserialize")]
    pub processor: Duration,
    /// Processor time of all calls of a stream together.
    #[serde(rename = "stream_processor_ms", deserialize_with = "milliseconds::deserialize")]
    pub stream_processor: Duration,
    /// Calls under way at once of one tenant; the settings bound all tenants with `hooks.max_running_per_tenant`.
    #[serde(skip, default = "as_the_host_has_it")]
    pub max_running: u64,
    /// Streams under way at once of one tenant; the settings bound all together with `hooks.max_streams`.
    #[serde(skip, default = "as_the_host_has_it")]
    pub max_streams: u64,
}

impl Limits {
    /// Those that are of a call; the others are of what runs at once.
    pub(crate) const OF_CALLS: [HookLimit; 13] = [
        HookLimit::MemoryMb,
        HookLimit::MaxTableElements,
        HookLimit::MaxInputBytes,
        HookLimit::MaxOutputBytes,
        HookLimit::MaxHostCalls,
        HookLimit::MaxHostBytes,
        HookLimit::MaxCountedBytes,
        HookLimit::MaxLogLines,
        HookLimit::MaxLogBytes,
        HookLimit::MaxFuel,
        HookLimit::MaxStreamFuel,
        HookLimit::ProcessorMs,
        HookLimit::StreamProcessorMs,
    ];

    /// These, but nowhere more than `most`.
    #[must_use]
    pub fn within(&self, most: &Self) -> Self {
        let mut limits = *self;
        for limit in HookLimit::ALL {
            if self.get(limit) > most.get(limit) {
                limits.set(limit, most.get(limit));
            }
        }
        limits
    }

    /// These with what was said for a tenant in their place: nowhere more than `ceiling`, whatever was said.
    #[must_use]
    pub fn of_tenant(&self, said: &HookLimits, ceiling: &Self) -> Self {
        let mut limits = *self;
        for (limit, value) in said.iter() {
            limits.set(limit, value.max(range(limit).0));
        }
        limits.within(ceiling)
    }

    /// One of them, by its name.
    #[must_use]
    pub fn get(&self, limit: HookLimit) -> u64 {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match limit {
            HookLimit::MemoryMb => (self.memory_bytes >> 20) as u64,
            HookLimit::MaxTableElements => self.max_table_elements as u64,
            HookLimit::MaxInputBytes => self.max_input_bytes as u64,
            HookLimit::MaxOutputBytes => self.max_output_bytes as u64,
            HookLimit::MaxHostCalls => self.max_host_calls.into(),
            HookLimit::MaxHostBytes => self.max_host_bytes as u64,
            HookLimit::MaxCountedBytes => self.max_counted_bytes as u64,
            HookLimit::MaxLogLines => self.max_log_lines as u64,
            HookLimit::MaxLogBytes => self.max_log_bytes as u64,
            HookLimit::MaxFuel => self.max_fuel,
            HookLimit::MaxStreamFuel => self.max_stream_fuel,
            HookLimit::ProcessorMs => milliseconds(self.processor),
            HookLimit::StreamProcessorMs => milliseconds(self.stream_processor),
            HookLimit::MaxRunning => self.max_running,
            HookLimit::MaxStreams => self.max_streams,
        }
    }

    fn set(&mut self, limit: HookLimit, value: u64) {
        let size = usize::try_from(value).unwrap_or(usize::MAX);
        match limit {
            HookLimit::MemoryMb => self.memory_bytes = size.saturating_mul(1 << 20),
            HookLimit::MaxTableElements => self.max_table_elements = size,
            HookLimit::MaxInputBytes => self.max_input_bytes = size,
            HookLimit::MaxOutputBytes => self.max_output_bytes = size,
            HookLimit::MaxHostCalls => self.max_host_calls = u32::try_from(value).unwrap_or(u32::MAX),
            HookLimit::MaxHostBytes => self.max_host_bytes = size,
            HookLimit::MaxCountedBytes => self.max_counted_bytes = size,
            HookLimit::MaxLogLines => self.max_log_lines = size,
            HookLimit::MaxLogBytes => self.max_log_bytes = size,
            HookLimit::MaxFuel => self.max_fuel = value,
            HookLimit::MaxStreamFuel => self.max_stream_fuel = value,
            HookLimit::ProcessorMs => self.processor = Duration::from_millis(value),
            HookLimit::StreamProcessorMs => self.stream_processor = Duration::from_millis(value),
            HookLimit::MaxRunning => self.max_running = value,
            HookLimit::MaxStreams => self.max_streams = value,
        }
    }

    /// Checks that each value can be used.
    pub(crate) fn check(&self, section: &str, checks: &mut Checks) {
        for limit in Self::OF_CALLS {
            let (least, most) = range(limit);
            checks.within(&format!("{section}.{}", limit.as_str()), self.get(limit), least..=most);
        }
    }
}

/// Where nothing was said of how many run at once, the host's own bounds hold.
const fn as_the_host_has_it() -> u64 {
    u64::MAX
}

/// The least and the most that can be used at all.
pub(crate) const fn range(limit: HookLimit) -> (u64, u64) {
    match limit {
        // A memory has 32 bits. Below a MiB no guest of a usual compiler starts.
        HookLimit::MemoryMb => (1, 2048),
        HookLimit::MaxTableElements => (1, 1 << 24),
        HookLimit::MaxInputBytes | HookLimit::MaxOutputBytes => (1 << 10, 1 << 30),
        HookLimit::MaxHostCalls => (1, u32::MAX as u64),
        HookLimit::MaxHostBytes => (1 << 10, 1 << 40),
        HookLimit::MaxCountedBytes | HookLimit::MaxLogBytes => (0, 1 << 30),
        HookLimit::MaxLogLines => (0, 1 << 20),
        HookLimit::MaxFuel | HookLimit::MaxStreamFuel => (1_000, 1 << 60),
        HookLimit::ProcessorMs => (1, 600_000),
        HookLimit::StreamProcessorMs => (1, 3_600_000),
        // One that could hold none would never be called.
        HookLimit::MaxRunning | HookLimit::MaxStreams => (1, u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::HookSettings;

    proptest! {
        #[test]
        fn a_tenant_has_what_was_said_for_it_and_nowhere_more_than_the_ceiling(
            said in prop::collection::vec((0..HookLimit::ALL.len(), any::<u64>()), 0..20),
        ) {
            let HookSettings { limits, ceiling, .. } = HookSettings::default();
            let mut own = HookLimits::default();
            for (which, value) in said {
                own.set(HookLimit::ALL[which], Some(value));
            }
            let has = limits.of_tenant(&own, &ceiling);
            prop_assert_eq!(has.within(&ceiling), has);
            for limit in HookLimit::ALL {
                let expected = own.get(limit).map_or(limits.get(limit), |value| value.max(range(limit).0));
                prop_assert_eq!(has.get(limit), expected.min(ceiling.get(limit)), "{:?}", limit);
            }
        }
    }
}
