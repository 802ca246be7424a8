//! What a kept answer takes to be heard.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::text_null;

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("idempotent_requests").add_column(scopes()).to_owned()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("idempotent_requests").drop_column("scopes").to_owned()).await
    }
}

/// The scopes of the key that the first request was made with, as `api_keys` has them; null: an older program took it.
fn scopes() -> ColumnDef {
    text_null("scopes").take()
}
