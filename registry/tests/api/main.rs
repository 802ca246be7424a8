//! The registry as its clients meet it: a real server on port 0, a real data folder, HTTP.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod adapters;
mod faults;
mod fuzz;
mod idempotency;
mod installation;
mod isolation;
mod keys;
mod objects;
mod processes;
mod recovery;
mod reports;
mod rights;
mod shares;
mod side_doors;
mod together;
mod tokens;
mod versions;
