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
mod components;
mod own_provider;
mod process;
mod support;
mod whole;

mod adapters;
mod audit;
mod crashes;
mod direct_uploads;
mod document;
mod equal_times;
mod faults;
mod file_grants;
mod fuzz;
mod gated;
mod hooks;
mod idempotency;
mod installation;
mod internal;
mod isolation;
mod keys;
mod kills;
mod leaked;
mod limits;
mod login;
mod members;
mod objects;
mod pages;
mod personal_keys;
mod policy;
mod processes;
mod recovery;
mod replays;
mod reports;
mod retention;
mod rights;
mod rotation;
mod services;
mod sessions;
mod shares;
mod sharing;
mod side_doors;
mod sign_in;
mod sqlite;
mod store_outages;
mod teams;
mod together;
mod tokens;
mod told;
mod usage;
mod versions;
mod versions_per_day;
mod warm;
mod webhooks;
