//! What one hook may take.

use std::time::Duration;

use serde::Deserialize;
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
}

impl Limits {
    /// These, but nowhere more than `most`.
    #[must_use]
    pub fn within(&self, most: &Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.min(most.memory_bytes),
            max_table_elements: self.max_table_elements.min(most.max_table_elements),
            max_input_bytes: self.max_input_bytes.min(most.max_input_bytes),
            max_output_bytes: self.max_output_bytes.min(most.max_output_bytes),
            max_host_calls: self.max_host_calls.min(most.max_host_calls),
            max_host_bytes: self.max_host_bytes.min(most.max_host_bytes),
            max_counted_bytes: self.max_counted_bytes.min(most.max_counted_bytes),
            max_log_lines: self.max_log_lines.min(most.max_log_lines),
            max_log_bytes: self.max_log_bytes.min(most.max_log_bytes),
            max_fuel: self.max_fuel.min(most.max_fuel),
            max_stream_fuel: self.max_stream_fuel.min(most.max_stream_fuel),
            processor: self.processor.min(most.processor),
            stream_processor: self.stream_processor.min(most.stream_processor),
        }
    }

    /// Checks that each value can be used.
    pub(crate) fn check(&self, section: &str, checks: &mut Checks) {
        let mut within = |key: &str, given: u64, least: u64, most: u64| {
            checks.within(&format!("{section}.{key}"), given, least..=most);
        };
        // A memory has 32 bits. Below a MiB no guest of a usual compiler starts.
        within("memory_mb", (self.memory_bytes >> 20) as u64, 1, 2048);
        within("max_table_elements", self.max_table_elements as u64, 1, 1 << 24);
        within("max_input_bytes", self.max_input_bytes as u64, 1 << 10, 1 << 30);
        within("max_output_bytes", self.max_output_bytes as u64, 1 << 10, 1 << 30);
        within("max_host_calls", self.max_host_calls.into(), 1, u32::MAX.into());
        within("max_host_bytes", self.max_host_bytes as u64, 1 << 10, 1 << 40);
        within("max_counted_bytes", self.max_counted_bytes as u64, 0, 1 << 30);
        within("max_log_lines", self.max_log_lines as u64, 0, 1 << 20);
        within("max_log_bytes", self.max_log_bytes as u64, 0, 1 << 30);
        within("max_fuel", self.max_fuel, 1_000, 1 << 60);
        within("max_stream_fuel", self.max_stream_fuel, 1_000, 1 << 60);
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        within("processor_ms", milliseconds(self.processor), 1, 600_000);
        within("stream_processor_ms", milliseconds(self.stream_processor), 1, 3_600_000);
    }
}
