//! Where the chains of audit entries ended, hour for hour.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string_len};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// 64 hex digits.
const HASH_CHARS: u32 = 64;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(published_heads()).await?;
        let (table, columns) = ("published_heads", ["published_at_ms", "tenant_id"]);
        let index = Index::create().name("published_heads_moment").table(table).col(columns[0]).col(columns[1]).take();
        manager.create_index(index).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("published_heads").to_owned()).await
    }
}

/// `tenant_id` names the chain, `number` and `hash` are those of its last entry at that moment. Rows are neither changed nor
/// removed: entries that are kept no longer are those up to one of them.
fn published_heads() -> TableCreateStatement {
    Table::create()
        .table("published_heads")
        .col(string_len("tenant_id", ID_CHARS))
        .col(big_integer("number"))
        .col(string_len("hash", HASH_CHARS))
        .col(big_integer("published_at_ms"))
        .primary_key(Index::create().col("tenant_id").col("number"))
        .take()
}
