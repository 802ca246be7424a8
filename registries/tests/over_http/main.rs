//! A gateway's side of registries, with real ones: servers on port 0, a real database, HTTP, and a proxy between them that can
//! be told to fail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod field;
mod hooks;
mod nodes;

mod failing;
mod revoking;
mod rights;
mod usage;
