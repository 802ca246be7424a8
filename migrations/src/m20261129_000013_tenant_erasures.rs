//! Tenants that are to be erased.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len};

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
        manager.create_table(tenant_erasures()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("tenant_erasures").to_owned()).await
    }
}

/// `requested_by` is the operator's key. A row stays when the erasure is done: it says why the tenant has nothing.
fn tenant_erasures() -> TableCreateStatement {
    Table::create()
        .table("tenant_erasures")
        .col(string_len("tenant_id", ID_CHARS).primary_key())
        .col(string_len("requested_by", ID_CHARS))
        .col(big_integer("requested_at_ms"))
        .col(big_integer("due_at_ms"))
        .col(big_integer_null("done_at_ms"))
        .foreign_key(ForeignKey::create().from("tenant_erasures", "tenant_id").to("tenants", "id"))
        .take()
}
