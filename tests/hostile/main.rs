//! What one tenant, or a stranger, does at full rate, and what an innocent tenant beside it notices: the real executable,
//! the real model, loopback only. Each case prints the innocent's harm beside what the same requests met alone, and
//! asserts what does not depend on the machine's speed: that nobody innocent is refused, that all are answered, and
//! that what was held is given back.
//!
//! CI runs a short form with short times; `make hostile` runs the numbers that docs/limits.md speaks of, with the times
//! of config/default.toml, and prints the table.

#![expect(clippy::print_stdout, reason = "a case says what it has seen")]

mod adapters;
mod bodies;
mod connections;
mod constraints;
mod endings;
mod field;
mod harm;
mod inference;
mod raw;
mod registry;
#[path = "../stack/mod.rs"]
mod stack;
mod windows;

/// Whether the numbers are those of docs/limits.md.
fn is_full() -> bool {
    std::env::var("SOUK_HOSTILE").is_ok_and(|form| form == "full")
}

/// How many there are of something, in the short form and in the full one.
fn scale(short: usize, full: usize) -> usize {
    if is_full() { full } else { short }
}
