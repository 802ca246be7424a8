//! The sections `[engine]` and `[memory]` of the settings.

use serde::Deserialize;
use souk_protocol::settings::{self, Checks, mebibytes, mebibytes_or_none};

use crate::device_memory::{MemoryConfig, SideLimits};

/// Bounds of the engine and of the runner below it. Each is lowered to what the runner can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Compute threads of the runner; 0: one for each core that the process may use.
    pub threads: usize,
    /// Most token rows in one step: bounds the step's time, and so how long a newcomer waits.
    pub max_batch_tokens: usize,
    /// Most prompt rows in a step that also decodes: bounds the gap between two tokens of a running answer.
    pub max_prefill_tokens_beside_decode: usize,
    /// Most sequences in the batch. More wait inside the engine.
    pub max_sequences: usize,
    /// Most requests in the engine, those that wait for the batch included.
    pub max_requests: usize,
    /// Most rows of a step whose logits the runner computes.
    pub max_logit_rows: usize,
    /// Whether answers speculate (see `draft`).
    pub speculation: bool,
    /// Most rows in a step of decode rows and drafts; 0 drafts nothing. A step of this many rows should take little
    /// longer than one of a single row.
    pub max_speculative_tokens: usize,
    /// Most bytes of K and V; `None`: only the pool bounds them.
    #[serde(rename = "kv_cache_mb", deserialize_with = "mebibytes_or_none::deserialize")]
    pub kv_cache_bytes: Option<usize>,
    /// Whether KV blocks keep their content after their sequence has ended, for later ones of the same tenant.
    pub prefix_cache: bool,
    /// Most bytes of adapters that one step reads: bounds how much longer a step of many different adapters takes than
    /// one of the base model. At 20 GB/s, 256 MiB are 13 ms.
    #[serde(rename = "max_adapter_mb_per_step", deserialize_with = "mebibytes::deserialize")]
    pub max_adapter_bytes_per_step: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        settings::defaults("engine")
    }
}

impl EngineConfig {
    /// Checks that each value can be used, alone and with the others.
    pub fn check(&self, checks: &mut Checks) {
        checks.within("engine.threads", self.threads, 0..=4096);
        checks.within("engine.max_batch_tokens", self.max_batch_tokens, 1..=1 << 20);
        checks.at_least("engine.max_prefill_tokens_beside_decode", self.max_prefill_tokens_beside_decode, 1);
        checks.at_least("engine.max_sequences", self.max_sequences, 1);
        checks.at_least("engine.max_requests", self.max_requests, 1);
        checks.at_least("engine.max_logit_rows", self.max_logit_rows, 1);
        checks.at_least("engine.max_speculative_tokens", self.max_speculative_tokens, 1);
        checks.at_least("engine.max_adapter_mb_per_step", self.max_adapter_bytes_per_step >> 20, 1);
    }

    /// Compute threads after resolving 0.
    #[must_use]
    pub fn num_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Most rows of a step that speculates, decode rows included; 0 without speculation.
    pub(crate) const fn max_speculative_rows(&self) -> usize {
        if self.speculation { self.max_speculative_tokens } else { 0 }
    }
}

/// The memory that K and V share with adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySettings {
    /// Bytes of the whole pool.
    #[serde(rename = "device_mb", deserialize_with = "mebibytes::deserialize")]
    pub device_bytes: usize,
    /// Bytes that adapters can never take from K and V.
    #[serde(rename = "kv_floor_mb", deserialize_with = "mebibytes::deserialize")]
    pub kv_floor_bytes: usize,
    /// Bytes that K and V can never take from adapters.
    #[serde(rename = "adapters_floor_mb", deserialize_with = "mebibytes::deserialize")]
    pub adapters_floor_bytes: usize,
}

impl Default for MemorySettings {
    fn default() -> Self {
        settings::defaults("memory")
    }
}

impl MemorySettings {
    /// Checks that each value can be used, alone and with the others.
    pub fn check(&self, checks: &mut Checks) {
        let [device, kv, adapters] =
            [self.device_bytes, self.kv_floor_bytes, self.adapters_floor_bytes].map(|bytes| bytes >> 20);
        checks.at_least("memory.device_mb", device, 2);
        checks.at_least("memory.kv_floor_mb", kv, 1);
        checks.at_least("memory.adapters_floor_mb", adapters, 1);
        checks.rule(kv.saturating_add(adapters) <= device, || {
            format!(
                "memory.kv_floor_mb and memory.adapters_floor_mb together must be at most memory.device_mb, which is \
                 {device}; given {kv} and {adapters}"
            )
        });
    }

    /// The pool, divided: `kv_cap_bytes` and `adapters_cap_bytes` are the most that each side may take beside the
    /// floors of the other.
    #[must_use]
    pub const fn divided(&self, kv_cap_bytes: Option<usize>, adapters_cap_bytes: Option<usize>) -> MemoryConfig {
        MemoryConfig {
            total_bytes: self.device_bytes,
            kv: SideLimits { floor_bytes: self.kv_floor_bytes, cap_bytes: kv_cap_bytes },
            adapters: SideLimits { floor_bytes: self.adapters_floor_bytes, cap_bytes: adapters_cap_bytes },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_page_and_can_be_used() {
        let mut checks = Checks::default();
        EngineConfig::default().check(&mut checks);
        MemorySettings::default().check(&mut checks);
        assert_eq!(checks.finish(), Ok(()));
    }

    #[test]
    fn floors_that_exceed_the_pool_are_told_with_all_three_numbers() {
        let settings = MemorySettings { kv_floor_bytes: 380 << 20, ..MemorySettings::default() };
        let mut checks = Checks::default();
        settings.check(&mut checks);
        let error = checks.finish().unwrap_err().to_string();
        assert!(error.ends_with("memory.device_mb, which is 384; given 380 and 48"), "{error}");
    }
}
