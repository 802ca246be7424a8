//! What tokens are signed with.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, integer, string_len};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(signing_keys()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("signing_keys").to_owned()).await
    }
}

/// Ed25519 keys. Tokens name theirs by its `kid`; the newest signs. `seal_version` is that of the key which closed the
/// private half and is not in the database. A row is removed once no token lives that it could have signed.
fn signing_keys() -> TableCreateStatement {
    Table::create()
        .table("signing_keys")
        .col(string_len("kid", ID_CHARS).primary_key())
        .col(ColumnDef::new("public_key").blob().not_null())
        .col(ColumnDef::new("sealed_private_key").blob().not_null())
        .col(integer("seal_version"))
        .col(big_integer("created_at_ms"))
        .take()
}
