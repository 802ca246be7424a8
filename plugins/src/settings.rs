//! The section `[hooks]` of the settings.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use souk_protocol::hooks::HookLimit;
use souk_protocol::settings::{self, Checks, mebibytes, milliseconds, seconds};

use crate::limits::{Limits, range};

/// How large a component may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// As whoever publishes may.
    #[default]
    Usual,
    /// Where the operator lets a tenant: a component with an interpreter in it, such as Python's.
    Large,
}

/// What hooks may take of a process: the section `[hooks]` of the settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSettings {
    /// Threads that run hooks. 0: as many as cores, at most [`MAX_THREADS`].
    pub threads: usize,
    /// Calls that are under way at once.
    pub max_running: usize,
    /// Of those of one tenant.
    pub max_running_per_tenant: usize,
    /// How long a call stands in line.
    #[serde(rename = "max_wait_ms", deserialize_with = "milliseconds::deserialize")]
    pub max_wait: Duration,
    /// Streams that are under way at once.
    pub max_streams: usize,
    /// Compiled hooks that are kept in memory.
    pub max_resident: usize,
    /// Bytes of those.
    #[serde(rename = "max_resident_mb", deserialize_with = "mebibytes::deserialize")]
    pub max_resident_bytes: usize,
    /// Largest component that may be published.
    #[serde(rename = "max_component_mb", deserialize_with = "mebibytes::deserialize")]
    pub max_component_bytes: usize,
    /// The same where the operator lets a tenant publish large ones.
    #[serde(rename = "max_large_component_mb", deserialize_with = "mebibytes::deserialize")]
    pub max_large_component_bytes: usize,
    /// Processor time of compiling a component.
    #[serde(rename = "compile_processor_s", deserialize_with = "seconds::deserialize")]
    pub compile_processor: Duration,
    /// Time in all of compiling a component.
    #[serde(rename = "compile_timeout_s", deserialize_with = "seconds::deserialize")]
    pub compile_timeout: Duration,
    /// Memory of compiling a component.
    #[serde(rename = "compile_memory_mb", deserialize_with = "mebibytes::deserialize")]
    pub compile_memory_bytes: usize,
    /// The key that compiled hooks are sealed with; empty: it is in a file.
    #[serde(deserialize_with = "secret")]
    pub sealing_key: SecretString,
    /// What a hook may take where nothing else was said for a tenant.
    pub limits: Limits,
    /// Most that can be said for a tenant.
    pub ceiling: Limits,
}

/// Most threads that are taken where the settings do not say how many.
pub const MAX_THREADS: usize = 8;
/// Fewest characters of a sealing key.
const MIN_KEY_CHARS: usize = 32;
/// How much more compiling a large component may take.
const LARGE_FACTOR: u32 = 4;

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

impl Default for HookSettings {
    fn default() -> Self {
        settings::defaults("hooks")
    }
}

/// What compiling one component may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Processor time; whole seconds count.
    pub processor: Duration,
    /// Time in all, after the turn has come.
    pub timeout: Duration,
    /// Memory.
    pub memory_bytes: usize,
    /// Bytes of what comes out.
    pub output_bytes: usize,
}

/// What can be said of a limit for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The least.
    pub least: u64,
    /// What it is where nothing is said.
    pub usual: u64,
    /// The most.
    pub most: u64,
}

impl HookSettings {
    /// What can be said of a limit for a tenant.
    #[must_use]
    pub fn offered(&self, limit: HookLimit) -> Offered {
        let at_once = |count: usize| (count as u64, count as u64);
        let (usual, most) = match limit {
            HookLimit::MaxRunning => at_once(self.max_running_per_tenant),
            HookLimit::MaxStreams => at_once(self.max_streams),
            of_a_call => (self.limits.get(of_a_call), self.ceiling.get(of_a_call)),
        };
        Offered { least: range(limit).0, usual, most }
    }

    /// Checks that each value can be used, alone and with the others.
    pub fn check(&self, checks: &mut Checks) {
        checks.within("hooks.threads", self.threads, 0..=1024);
        checks.within("hooks.max_running", self.max_running, 1..=4096);
        let (most, all) = (self.max_running_per_tenant, self.max_running);
        checks.no_more_than("hooks.max_running_per_tenant", most, "hooks.max_running", all);
        checks.at_least("hooks.max_running_per_tenant", most, 1);
        checks.within("hooks.max_wait_ms", self.max_wait.as_millis(), 0..=600_000);
        checks.within("hooks.max_streams", self.max_streams, 1..=1 << 16);
        checks.within("hooks.max_resident", self.max_resident, 1..=1 << 20);
        checks.within("hooks.max_resident_mb", self.max_resident_bytes >> 20, 1..=1 << 20);
        checks.within("hooks.max_component_mb", self.max_component_bytes >> 20, 1..=1024);
        checks.within("hooks.max_large_component_mb", self.max_large_component_bytes >> 20, 1..=1024);
        let (usual, large) = (self.max_component_bytes >> 20, self.max_large_component_bytes >> 20);
        checks.no_more_than("hooks.max_component_mb", usual, "hooks.max_large_component_mb", large);
        checks.within("hooks.compile_processor_s", self.compile_processor.as_secs(), 1..=3600);
        checks.within("hooks.compile_timeout_s", self.compile_timeout.as_secs(), 1..=3600);
        // The executable and the compiler themselves take some of it.
        checks.within("hooks.compile_memory_mb", self.compile_memory_bytes >> 20, 64..=1 << 20);
        let chars = self.sealing_key.expose_secret().chars().count();
        checks.rule(chars == 0 || chars >= MIN_KEY_CHARS, || {
            format!("hooks.sealing_key must have at least {MIN_KEY_CHARS} characters, or be empty; given {chars}")
        });
        self.limits.check("hooks.limits", checks);
        self.ceiling.check("hooks.ceiling", checks);
        checks.rule(self.limits.within(&self.ceiling) == self.limits, || {
            "hooks.limits must nowhere be more than hooks.ceiling".to_owned()
        });
    }

    /// Largest component of a tier.
    #[must_use]
    pub fn component_bytes(&self, tier: Tier) -> usize {
        match tier {
            Tier::Usual => self.max_component_bytes,
            Tier::Large => self.max_large_component_bytes,
        }
    }

    /// What compiling a component of a tier may take.
    #[must_use]
    pub fn compile_limits(&self, tier: Tier) -> CompileLimits {
        let factor = match tier {
            Tier::Usual => 1,
            Tier::Large => LARGE_FACTOR,
        };
        CompileLimits {
            processor: self.compile_processor * factor,
            timeout: self.compile_timeout * factor,
            memory_bytes: self.compile_memory_bytes.saturating_mul(factor as usize),
            // Machine code is three to six times as long as what it is made from.
            output_bytes: self.component_bytes(tier).saturating_mul(8),
        }
    }

    /// How many threads there are to be.
    #[must_use]
    pub fn num_threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        if self.threads == 0 { cores() } else { self.threads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used_and_what_cannot_is_told() {
        let settings = HookSettings::default();
        let mut checks = Checks::default();
        settings.check(&mut checks);
        checks.finish().unwrap();

        let mut wrong = settings.clone();
        wrong.sealing_key = SecretString::from("short");
        wrong.limits.max_fuel = wrong.ceiling.max_fuel + 1;
        wrong.max_running_per_tenant = wrong.max_running + 1;
        let mut checks = Checks::default();
        wrong.check(&mut checks);
        let told = checks.finish().unwrap_err().to_string();
        assert!(told.contains("hooks.max_running_per_tenant must be at most hooks.max_running"), "{told}");
        assert!(told.contains("hooks.sealing_key must have at least 32 characters"), "{told}");
        assert!(told.contains("hooks.limits must nowhere be more than hooks.ceiling"), "{told}");
    }

    #[test]
    fn a_tenant_gets_no_more_than_the_ceiling() {
        let HookSettings { limits, ceiling, .. } = HookSettings::default();
        let asked = Limits { max_fuel: u64::MAX, max_log_lines: 1, ..limits };
        let has = asked.within(&ceiling);
        assert_eq!((has.max_fuel, has.max_log_lines, has.memory_bytes), (ceiling.max_fuel, 1, limits.memory_bytes));
        assert_eq!(has.within(&ceiling), has);
    }
}
