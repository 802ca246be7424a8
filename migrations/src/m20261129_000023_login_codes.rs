//! Codes that `souk login` exchanges for a key.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string_len};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// SHA-256 in base64url.
const CHALLENGE_CHARS: u32 = 43;
/// Longest name of a key.
const NAME_CHARS: u32 = 100;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(login_codes()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("login_codes").to_owned()).await
    }
}

/// What a browser with the session `session_id` has let a program on somebody's machine get: a key of the session's person
/// for the tenant, called `name`. Whoever exchanges the code removes the row, and knows what `challenge` is the hash of.
fn login_codes() -> TableCreateStatement {
    Table::create()
        .table("login_codes")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(ColumnDef::new("secret_hash").blob().not_null())
        .col(string_len("session_id", ID_CHARS))
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("challenge", CHALLENGE_CHARS))
        .col(string_len("name", NAME_CHARS))
        .col(big_integer("expires_at_ms"))
        .take()
}
