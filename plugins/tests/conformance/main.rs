//! What every hook in `examples/` does, in every language it is written in.
//!
//! Components are those that were recorded in `tests/guests`, and those that `make guests` built last, where it was run.

#![expect(clippy::unwrap_used, reason = "a test may fail by panic")]

mod cases;
mod guests;
mod languages;
mod rebuilt;
