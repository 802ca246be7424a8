//! What one tenant, or a stranger, does at full rate, and what an innocent tenant beside it notices: the real executable,
//! the real model, loopback only. Each case prints the innocent's harm beside what the same requests met alone, and
//! asserts what does not depend on the machine's speed: that nobody innocent is refused, that all are answered, and
//! that what was held is given back.
//!
//! CI runs a short form with short times; `make hostile` runs the numbers that docs/limits.md speaks of, with the times
//! of config/default.toml, and prints the table.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "its form is set and its figures shown by hand")]

mod form;
#[path = "../stack/mod.rs"]
mod stack;
// The field, what is noticed on it, and clients of another kind.
mod field;
mod harm;
mod raw;
// What is done.
mod adapters;
mod bodies;
mod connections;
mod constraints;
mod endings;
mod inference;
mod registry;
mod windows;
