//! What a tenant says of its keys.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len, text_null};

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
        manager.create_table(tenant_policies()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("tenant_policies").to_owned()).await
    }
}

/// A tenant without a row bounds nothing. `scopes` are names with spaces between, null for all; `personal_keys` is 1 where
/// persons may have keys of their own, else 0.
fn tenant_policies() -> TableCreateStatement {
    Table::create()
        .table("tenant_policies")
        .col(string_len("tenant_id", ID_CHARS).primary_key())
        .col(big_integer_null("max_key_days"))
        .col(text_null("scopes"))
        .col(big_integer("personal_keys"))
        .col(big_integer("updated_at_ms"))
        .foreign_key(ForeignKey::create().from("tenant_policies", "tenant_id").to("tenants", "id"))
        .take()
}
