//! The schema on SQLite and on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

mod compatible;
mod order;
mod queries;
mod steps;
