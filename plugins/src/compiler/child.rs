//! What the child does: it bounds itself, reads a component, compiles it, and says what came of it.

use std::io::{self, BufRead, Read, Write};

use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::Engine;

use super::{COMPILED, REFUSED, Terms};
use crate::engine::compiling;

/// Longest first line.
const MAX_TERMS_BYTES: u64 = 1024;
/// Longest reason.
const MAX_REASON_CHARS: usize = 2000;
/// Files that it may have open: it has three, and the C library may want some for a moment.
const MAX_FILES: u64 = 16;
/// Address space beside what it may write to: the executable, and what is reserved and never used.
const MAX_OTHER_BYTES: u64 = 8 << 30;
/// Seconds between the signal that ends it and the one that nothing withstands.
const GRACE_S: u64 = 1;

/// Compiles what comes in and writes what comes of it: the whole of a process that does nothing else and has no other threads.
///
/// # Errors
/// If the limits cannot be set, or the pipes are gone.
pub fn child_main(input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut input = io::BufReader::new(input);
    let mut line = Vec::new();
    Read::take(&mut input, MAX_TERMS_BYTES).read_until(b'\n', &mut line)?;
    let terms: Terms = serde_json::from_slice(&line)?;
    bound(&terms)?;
    stand_back();
    let mut component = Vec::new();
    input.read_to_end(&mut component)?;
    match compile(&component) {
        Ok(compiled) => {
            output.write_all(&[COMPILED])?;
            output.write_all(&compiled)?;
        }
        Err(error) => {
            let reason: String = format!("{error:#}").chars().take(MAX_REASON_CHARS).collect();
            output.write_all(&[REFUSED])?;
            output.write_all(reason.as_bytes())?;
        }
    }
    output.flush()
}

fn compile(component: &[u8]) -> wasmtime::Result<Vec<u8>> {
    Engine::new(&compiling())?.precompile_component(component)
}

fn bound(terms: &Terms) -> io::Result<()> {
    let both = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
    let processor = Rlimit { current: Some(terms.processor_s), maximum: Some(terms.processor_s + GRACE_S) };
    setrlimit(Resource::Core, both(0))?;
    setrlimit(Resource::Fsize, both(0))?;
    setrlimit(Resource::Nofile, both(MAX_FILES))?;
    setrlimit(Resource::Cpu, processor)?;
    // Of memory that can be written to, which is what compiling takes; what is only reserved counts in the other.
    setrlimit(Resource::Data, both(terms.memory_bytes))?;
    setrlimit(Resource::As, both(terms.memory_bytes.saturating_add(MAX_OTHER_BYTES)))?;
    Ok(())
}

/// Whoever publishes waits longer than whoever asks.
fn stand_back() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // A sandbox may forbid it.
        let _ = getpriority_process(None).and_then(|priority| setpriority_process(None, (priority + 10).min(19)));
    }
}
