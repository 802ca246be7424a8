//! The same tests as in `api`, on PostgreSQL, and those of what is so with PostgreSQL alone.
#![cfg(has_postgres)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The stores of every test; `api` says the other.
const ON_POSTGRES: bool = true;

#[path = "../api/process.rs"]
mod process;
#[path = "../api/support.rs"]
mod support;
#[path = "../api/whole.rs"]
mod whole;

#[path = "../api/browser.rs"]
mod browser;
#[path = "../api/components.rs"]
mod components;
#[path = "../api/own_provider.rs"]
mod own_provider;

#[path = "../api/adapters.rs"]
mod adapters;
#[path = "../api/audit.rs"]
mod audit;
#[path = "../api/crashes/mod.rs"]
mod crashes;
#[path = "../api/direct_uploads.rs"]
mod direct_uploads;
#[path = "../api/equal_times.rs"]
mod equal_times;
#[path = "../api/faults.rs"]
mod faults;
#[path = "../api/file_grants.rs"]
mod file_grants;
#[path = "../api/gated.rs"]
mod gated;
#[path = "../api/hooks/mod.rs"]
mod hooks;
#[path = "../api/idempotency.rs"]
mod idempotency;
#[path = "../api/installation.rs"]
mod installation;
#[path = "../api/internal.rs"]
mod internal;
#[path = "../api/isolation.rs"]
mod isolation;
#[path = "../api/keys.rs"]
mod keys;
#[path = "../api/kills.rs"]
mod kills;
#[path = "../api/leaked.rs"]
mod leaked;
#[path = "../api/limits.rs"]
mod limits;
#[path = "../api/login.rs"]
mod login;
#[path = "../api/members.rs"]
mod members;
#[path = "../api/pages.rs"]
mod pages;
#[path = "../api/personal_keys.rs"]
mod personal_keys;
#[path = "../api/policy.rs"]
mod policy;
#[path = "../api/processes.rs"]
mod processes;
#[path = "../api/recovery.rs"]
mod recovery;
#[path = "../api/replays.rs"]
mod replays;
#[path = "../api/reports.rs"]
mod reports;
#[path = "../api/retention.rs"]
mod retention;
#[path = "../api/rights.rs"]
mod rights;
#[path = "../api/rotation.rs"]
mod rotation;
#[path = "../api/services.rs"]
mod services;
#[path = "../api/sessions.rs"]
mod sessions;
#[path = "../api/shares.rs"]
mod shares;
#[path = "../api/sharing.rs"]
mod sharing;
#[path = "../api/side_doors.rs"]
mod side_doors;
#[path = "../api/sign_in.rs"]
mod sign_in;
#[path = "../api/store_outages.rs"]
mod store_outages;
#[path = "../api/teams.rs"]
mod teams;
#[path = "../api/together.rs"]
mod together;
#[path = "../api/tokens.rs"]
mod tokens;
#[path = "../api/told.rs"]
mod told;
#[path = "../api/usage/mod.rs"]
mod usage;
#[path = "../api/versions.rs"]
mod versions;
#[path = "../api/versions_per_day.rs"]
mod versions_per_day;
#[path = "../api/warm.rs"]
mod warm;
#[path = "../api/webhooks.rs"]
mod webhooks;

mod blob_rows;
mod checking;
mod connecting;
mod outages;
