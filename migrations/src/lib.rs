//! The SQL schema of the registry, as ordered migrations. No queries and no row types: those live in `registry/src/db`.
//!
//! Begin with [`Migrator`], then read the first migration from top to bottom: it is the data model. A migration that
//! was released is never edited; a change is a new file at the end of the list. Each is one transaction, so that a start
//! that ends in the middle of one (a kill, a full disk) leaves the schema before it, and the next start goes on from there.
//!
//! Programs of two versions work on one database while a fleet is upgraded. So each migration is marked: one that expands only
//! adds, and the program before goes on working; one that contracts takes something away that the program before may use.
//! A start makes the former itself; the latter wait for `souk migrate up`, when no older program runs any more.
//!
//! Types are the ones that SQLite and PostgreSQL share: text, 64-bit integers, bytes. Moments are milliseconds since
//! the Unix epoch in columns named `…_at_ms`, which sort and compare alike in both. Texts sort by their bytes in both: see [`byte_order`].

mod byte_order;
mod progress;

mod m20261124_000001_registry;
mod m20261128_000002_leases;
mod m20261128_000003_version_reports;
mod m20261128_000004_rights;
mod m20261128_000005_lists_and_shares;
mod m20261129_000001_signing_keys;
mod m20261129_000002_byte_order;
mod m20261129_000010_audit_and_events;
mod m20261129_000011_published_heads;
mod m20261129_000012_webhooks;
mod m20261129_000013_tenant_erasures;
mod m20261129_000020_people;
mod m20261129_000021_sessions;
mod m20261129_000022_providers;
mod m20261129_000023_login_codes;
mod m20261129_000024_made_by_person;
mod m20261129_000030_personal_keys;
mod m20261129_000031_tenant_policies;
mod m20261129_000032_access;
mod m20261129_000040_services;
mod m20261129_000050_direct_uploads;
mod m20261129_000051_scopes_of_claims;
mod m20261129_000052_store_ids;
mod m20261129_000060_usage;
mod m20261129_000070_limits;
mod m20261129_000080_hooks;
mod m20261129_000081_hook_limits;
mod m20261129_000090_service_kinds;

pub use progress::{Expanded, State, TryOutError, expand, from_a_newer_program, is_enough, status, try_out};
pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::{MigrationTrait, async_trait};

/// All migrations, oldest first. `Migrator::up(&db, None)` brings a database of any age to the current schema, and makes
/// those that contract too.
#[derive(Debug)]
pub struct Migrator;

/// What a migration is to the program of the version before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes on working: nothing that it uses is gone or means something else, and what it writes is taken.
    Expand,
    /// It may not.
    Contract,
}

impl Kind {
    /// As `souk migrate` says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Contract => "contract",
        }
    }
}

/// The list, with what each is.
pub(crate) fn steps() -> Vec<(Kind, Box<dyn MigrationTrait>)> {
    vec![
        (Kind::Expand, Box::new(m20261124_000001_registry::Migration)),
        (Kind::Expand, Box::new(m20261128_000002_leases::Migration)),
        (Kind::Expand, Box::new(m20261128_000003_version_reports::Migration)),
        (Kind::Expand, Box::new(m20261128_000004_rights::Migration)),
        (Kind::Expand, Box::new(m20261128_000005_lists_and_shares::Migration)),
        (Kind::Expand, Box::new(m20261129_000001_signing_keys::Migration)),
        (Kind::Expand, Box::new(m20261129_000002_byte_order::Migration)),
        (Kind::Expand, Box::new(m20261129_000010_audit_and_events::Migration)),
        (Kind::Expand, Box::new(m20261129_000011_published_heads::Migration)),
        (Kind::Expand, Box::new(m20261129_000012_webhooks::Migration)),
        (Kind::Expand, Box::new(m20261129_000013_tenant_erasures::Migration)),
        (Kind::Expand, Box::new(m20261129_000020_people::Migration)),
        (Kind::Expand, Box::new(m20261129_000021_sessions::Migration)),
        (Kind::Expand, Box::new(m20261129_000022_providers::Migration)),
        (Kind::Expand, Box::new(m20261129_000023_login_codes::Migration)),
        (Kind::Expand, Box::new(m20261129_000024_made_by_person::Migration)),
        (Kind::Expand, Box::new(m20261129_000030_personal_keys::Migration)),
        (Kind::Expand, Box::new(m20261129_000031_tenant_policies::Migration)),
        (Kind::Expand, Box::new(m20261129_000032_access::Migration)),
        (Kind::Expand, Box::new(m20261129_000040_services::Migration)),
        (Kind::Expand, Box::new(m20261129_000050_direct_uploads::Migration)),
        (Kind::Expand, Box::new(m20261129_000051_scopes_of_claims::Migration)),
        (Kind::Expand, Box::new(m20261129_000052_store_ids::Migration)),
        (Kind::Expand, Box::new(m20261129_000070_limits::Migration)),
        (Kind::Expand, Box::new(m20261129_000060_usage::Migration)),
        (Kind::Expand, Box::new(m20261129_000080_hooks::Migration)),
        (Kind::Expand, Box::new(m20261129_000081_hook_limits::Migration)),
        (Kind::Expand, Box::new(m20261129_000090_service_kinds::Migration)),
    ]
}

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        steps().into_iter().map(|(_, migration)| migration).collect()
    }
}
