//! What hooks may take of what is a tenant's, where the operator said so for that tenant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that hooks take and that is bounded. The names are those of `[hooks.limits]`, with their units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookLimit {
    /// Memory of a call, in MiB.
    MemoryMb,
    /// Entries of its tables.
    MaxTableElements,
    /// Bytes of what it is given.
    MaxInputBytes,
    /// Bytes of what it gives back.
    MaxOutputBytes,
    /// Calls of the host within it.
    MaxHostCalls,
    /// Bytes that go through those.
    MaxHostBytes,
    /// Bytes of texts whose tokens are counted.
    MaxCountedBytes,
    /// Lines of its log.
    MaxLogLines,
    /// Bytes of those.
    MaxLogBytes,
    /// Fuel of a call.
    MaxFuel,
    /// Fuel of all calls of a stream.
    MaxStreamFuel,
    /// Processor time of a call, in milliseconds.
    ProcessorMs,
    /// Processor time of all calls of a stream, in milliseconds.
    StreamProcessorMs,
    /// Calls that are under way at once in a process, in the tenant's requests.
    MaxRunning,
    /// Streams that are under way at once in a process, in the tenant's requests.
    MaxStreams,
}

/// Limits of a tenant's hooks, by name; what is not in here is as the settings have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HookLimits(BTreeMap<String, u64>);

impl HookLimit {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::MemoryMb,
        Self::MaxTableElements,
        Self::MaxInputBytes,
        Self::MaxOutputBytes,
        Self::MaxHostCalls,
        Self::MaxHostBytes,
        Self::MaxCountedBytes,
        Self::MaxLogLines,
        Self::MaxLogBytes,
        Self::MaxFuel,
        Self::MaxStreamFuel,
        Self::ProcessorMs,
        Self::StreamProcessorMs,
        Self::MaxRunning,
        Self::MaxStreams,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemoryMb => "memory_mb",
            Self::MaxTableElements => "max_table_elements",
            Self::MaxInputBytes => "max_input_bytes",
            Self::MaxOutputBytes => "max_output_bytes",
            Self::MaxHostCalls => "max_host_calls",
            Self::MaxHostBytes => "max_host_bytes",
            Self::MaxCountedBytes => "max_counted_bytes",
            Self::MaxLogLines => "max_log_lines",
            Self::MaxLogBytes => "max_log_bytes",
            Self::MaxFuel => "max_fuel",
            Self::MaxStreamFuel => "max_stream_fuel",
            Self::ProcessorMs => "processor_ms",
            Self::StreamProcessorMs => "stream_processor_ms",
            Self::MaxRunning => "max_running",
            Self::MaxStreams => "max_streams",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.as_str() == name)
    }
}

impl HookLimits {
    /// Whether all is as the settings have it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was said of one.
    #[must_use]
    pub fn get(&self, limit: HookLimit) -> Option<u64> {
        self.0.get(limit.as_str()).copied()
    }

    /// Says something of one, or with `None` nothing any more.
    pub fn set(&mut self, limit: HookLimit, value: Option<u64>) {
        match value {
            Some(value) => _ = self.0.insert(limit.as_str().to_owned(), value),
            None => _ = self.0.remove(limit.as_str()),
        }
    }

    /// All that was said. Names of a later version, which are not known here, are passed over.
    pub fn iter(&self) -> impl Iterator<Item = (HookLimit, u64)> {
        self.0.iter().filter_map(|(name, value)| Some((HookLimit::named(name)?, *value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_name_of_its_own_and_a_name_of_later_is_passed_over() {
        for limit in HookLimit::ALL {
            assert_eq!(HookLimit::named(limit.as_str()), Some(limit));
        }
        let mut limits: HookLimits = serde_json::from_str(r#"{"max_fuel":5,"max_later":7}"#).unwrap();
        assert_eq!(limits.iter().collect::<Vec<_>>(), [(HookLimit::MaxFuel, 5)]);
        limits.set(HookLimit::MaxFuel, None);
        limits.set(HookLimit::MemoryMb, Some(64));
        assert_eq!(serde_json::to_string(&limits).unwrap(), r#"{"max_later":7,"memory_mb":64}"#);
    }
}
