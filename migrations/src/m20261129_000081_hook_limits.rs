//! What hooks of a tenant may take, where the operator said so.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string_len, text};

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
        manager.create_table(hook_limits()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("hook_limits").to_owned()).await
    }
}

/// `limits` is an object as JSON, with numbers by the names of `[hooks.limits]`; `large_components` is 1 if the tenant may publish
/// large components, else 0.
fn hook_limits() -> TableCreateStatement {
    Table::create()
        .table("hook_limits")
        .col(string_len("tenant_id", ID_CHARS).primary_key())
        .col(text("limits"))
        .col(big_integer("large_components").default(0))
        .col(big_integer("updated_at_ms"))
        .foreign_key(ForeignKey::create().from("hook_limits", "tenant_id").to("tenants", "id"))
        .take()
}
