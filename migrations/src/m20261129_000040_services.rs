//! Services of the installation that call others: gateways.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, integer, string_len, string_len_null};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// Longest name.
const NAME_CHARS: u32 = 64;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(services()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("services").to_owned()).await
    }
}

/// What a service presents for a token: the hash of a text of the shape of an API key, which belongs to no tenant. Several
/// rows may have one name while one follows the other. Rows are never deleted.
fn services() -> TableCreateStatement {
    Table::create()
        .table("services")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("name", NAME_CHARS))
        .col(ColumnDef::new("secret_hash").blob().not_null())
        .col(integer("pepper_version"))
        .col(big_integer("created_at_ms"))
        .col(string_len("made_by", ID_CHARS))
        .col(big_integer_null("revoked_at_ms"))
        .col(string_len_null("revoked_by", ID_CHARS))
        .take()
}
