//! Enemies, each with what becomes of it.

#![expect(clippy::unwrap_used, reason = "a test fails where something cannot be had")]

mod compiling;
mod guest;
mod harness;
mod host_calls;
mod memory;
mod output;
mod streams;
mod time;
mod uploads;
