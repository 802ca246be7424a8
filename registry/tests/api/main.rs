//! The registry as its clients meet it: a real server on port 0, a real data folder, HTTP. On SQLite;
//! `api_postgres` has the same tests on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(not(has_postgres))]
#[test]
#[ignore = "needs PostgreSQL: apt-get install postgresql"]
fn all_of_it_on_postgresql() {}

/// The stores of every test; `api_postgres` says the other.
const ON_POSTGRES: bool = false;

mod browser;
mod own_provider;
mod support;

mod adapters;
mod faults;
mod fuzz;
mod idempotency;
mod installation;
mod isolation;
mod keys;
mod login;
mod members;
mod objects;
mod processes;
mod recovery;
mod reports;
mod rights;
mod sessions;
mod shares;
mod side_doors;
mod sign_in;
mod sqlite;
mod together;
mod tokens;
mod versions;
