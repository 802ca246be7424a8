//! What the host knows of a hook while it runs: what it may see, and how much it has had.

use sha2::{Digest as _, Sha256};
use souk_protocol::Digest;
use wasmtime::ResourceLimiter;

use crate::context::CallContext;
use crate::error::HookErrorKind;
use crate::limits::{Limits, MAX_INSTANCES, MAX_MEMORIES, MAX_RANDOM_BYTES, MAX_TABLES};
use crate::words::{Level, LogLine};

/// Why the host stops a hook: the source of the error that ends its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.message())]
pub(crate) struct Stop(pub(crate) HookErrorKind);

/// Of one instance of a hook.
pub(crate) struct State {
    pub(crate) context: CallContext,
    pub(crate) bounds: Bounds,
    random: Random,
    num_host_calls: u32,
    host_bytes: usize,
    counted_bytes: usize,
    lines: Vec<LogLine>,
    line_bytes: usize,
    num_dropped_lines: u32,
}

/// What a call did with the host.
pub(crate) struct HostUse {
    pub(crate) num_host_calls: u32,
    pub(crate) lines: Vec<LogLine>,
    pub(crate) num_dropped_lines: u32,
}

impl State {
    pub(crate) fn new(context: CallContext, digest: &Digest) -> Self {
        Self {
            bounds: Bounds::new(&context.limits),
            random: Random::new(context.seed, digest),
            context,
            num_host_calls: 0,
            host_bytes: 0,
            counted_bytes: 0,
            lines: Vec::new(),
            line_bytes: 0,
            num_dropped_lines: 0,
        }
    }

    /// Says what was done with the host since the last time, and begins anew: bounds are those of a call.
    pub(crate) fn take_host_use(&mut self) -> HostUse {
        (self.host_bytes, self.counted_bytes, self.line_bytes) = (0, 0, 0);
        HostUse {
            num_host_calls: std::mem::take(&mut self.num_host_calls),
            lines: std::mem::take(&mut self.lines),
            num_dropped_lines: std::mem::take(&mut self.num_dropped_lines),
        }
    }

    /// Counts a call of the host, with the bytes that go through it.
    pub(crate) fn count_host_call(&mut self, bytes: usize) -> Result<(), Stop> {
        self.num_host_calls += 1;
        self.host_bytes = self.host_bytes.saturating_add(bytes);
        let limits = &self.context.limits;
        if self.num_host_calls > limits.max_host_calls || self.host_bytes > limits.max_host_bytes {
            return Err(Stop(HookErrorKind::TooManyHostCalls));
        }
        Ok(())
    }

    /// Keeps a line, if lines are kept and there is room.
    pub(crate) fn write_line(&mut self, level: Level, message: String) -> Result<(), Stop> {
        self.count_host_call(message.len())?;
        let limits = &self.context.limits;
        let line_bytes = self.line_bytes.saturating_add(message.len());
        if self.context.may_log && self.lines.len() < limits.max_log_lines && line_bytes <= limits.max_log_bytes {
            self.line_bytes = line_bytes;
            self.lines.push(LogLine { level, message });
        } else {
            self.num_dropped_lines += 1;
        }
        Ok(())
    }

    pub(crate) fn config(&mut self) -> Result<String, Stop> {
        self.count_host_call(self.context.config.len())?;
        Ok(self.context.config.as_ref().to_owned())
    }

    pub(crate) fn variable(&mut self, name: &str) -> Result<Option<String>, Stop> {
        let value_bytes = self.context.variables.get(name).map_or(0, String::len);
        self.count_host_call(name.len() + value_bytes)?;
        Ok(self.context.variables.get(name).cloned())
    }

    pub(crate) fn clock_s(&mut self) -> Result<u64, Stop> {
        self.count_host_call(0)?;
        Ok(self.context.clock_s)
    }

    pub(crate) fn random_bytes(&mut self, length: u32) -> Result<Vec<u8>, Stop> {
        self.count_host_call(length as usize)?;
        if length > MAX_RANDOM_BYTES {
            return Err(Stop(HookErrorKind::Invalid));
        }
        Ok(self.random.bytes(length as usize))
    }

    pub(crate) fn count_tokens(&mut self, text: &str) -> Result<u32, Stop> {
        self.count_host_call(text.len())?;
        self.counted_bytes = self.counted_bytes.saturating_add(text.len());
        if self.counted_bytes > self.context.limits.max_counted_bytes {
            return Err(Stop(HookErrorKind::TooManyHostCalls));
        }
        Ok(self.context.tokens.count(text))
    }
}

/// Bytes that are the same for the same request and hook.
struct Random {
    key: [u8; 32],
    num_blocks: u64,
    rest: Vec<u8>,
}

impl Random {
    fn new(seed: u64, digest: &Digest) -> Self {
        let key = Sha256::new().chain_update(b"souk hook random").chain_update(seed.to_le_bytes());
        Self { key: key.chain_update(digest.as_bytes()).finalize().into(), num_blocks: 0, rest: Vec::new() }
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.rest.len() < length {
            let block = Sha256::new().chain_update(self.key).chain_update(self.num_blocks.to_le_bytes()).finalize();
            self.rest.extend_from_slice(&block);
            self.num_blocks += 1;
        }
        let kept = self.rest.split_off(length);
        std::mem::replace(&mut self.rest, kept)
    }
}

/// How much memory and how long tables a hook has, and may have.
pub(crate) struct Bounds {
    max_memory_bytes: usize,
    max_table_elements: usize,
    memory_bytes: usize,
    table_elements: usize,
    /// Most memory that it had.
    pub(crate) peak_memory_bytes: usize,
    /// Whether it was refused any.
    pub(crate) was_refused: bool,
}

impl Bounds {
    fn new(limits: &Limits) -> Self {
        Self {
            max_memory_bytes: limits.memory_bytes,
            max_table_elements: limits.max_table_elements,
            memory_bytes: 0,
            table_elements: 0,
            peak_memory_bytes: 0,
            was_refused: false,
        }
    }
}

/// Of memories and tables what counts is their sum: the engine asks for each alone.
impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        let fits = bytes <= self.max_memory_bytes && maximum.is_none_or(|maximum| desired <= maximum);
        if fits {
            self.memory_bytes = bytes;
            self.peak_memory_bytes = self.peak_memory_bytes.max(bytes);
        }
        self.was_refused |= !fits;
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.table_elements.saturating_add(desired.saturating_sub(current));
        let fits = elements <= self.max_table_elements && maximum.is_none_or(|maximum| desired <= maximum);
        if fits {
            self.table_elements = elements;
        }
        self.was_refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn randomness_is_of_the_seed_and_the_hook_however_it_is_asked_for() {
        let hook = Digest::of(b"hook");
        let mut random = Random::new(7, &hook);
        let pieces = [random.bytes(5), random.bytes(0), random.bytes(100)].concat();
        assert_eq!(pieces, Random::new(7, &hook).bytes(105));
        assert_ne!(pieces, Random::new(8, &hook).bytes(105));
        assert_ne!(pieces, Random::new(7, &Digest::of(b"another")).bytes(105));
    }
}
