//! The same tests as in `api`, on PostgreSQL, and those of what is so with PostgreSQL alone.
#![cfg(has_postgres)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The stores of every test; `api` says the other.
const ON_POSTGRES: bool = true;

#[path = "../api/support.rs"]
mod support;

#[path = "../api/browser.rs"]
mod browser;
#[path = "../api/own_provider.rs"]
mod own_provider;

#[path = "../api/adapters.rs"]
mod adapters;
#[path = "../api/faults.rs"]
mod faults;
#[path = "../api/idempotency.rs"]
mod idempotency;
#[path = "../api/installation.rs"]
mod installation;
#[path = "../api/isolation.rs"]
mod isolation;
#[path = "../api/keys.rs"]
mod keys;
#[path = "../api/login.rs"]
mod login;
#[path = "../api/members.rs"]
mod members;
#[path = "../api/processes.rs"]
mod processes;
#[path = "../api/recovery.rs"]
mod recovery;
#[path = "../api/reports.rs"]
mod reports;
#[path = "../api/rights.rs"]
mod rights;
#[path = "../api/sessions.rs"]
mod sessions;
#[path = "../api/shares.rs"]
mod shares;
#[path = "../api/side_doors.rs"]
mod side_doors;
#[path = "../api/sign_in.rs"]
mod sign_in;
#[path = "../api/together.rs"]
mod together;
#[path = "../api/tokens.rs"]
mod tokens;
#[path = "../api/versions.rs"]
mod versions;

mod checking;
mod connecting;
mod outages;
