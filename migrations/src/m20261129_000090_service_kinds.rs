//! What a service is.

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
        manager.alter_table(Table::alter().table("services").add_column(kind()).to_owned()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("services").drop_column("kind").to_owned()).await
    }
}

/// Its name, which says what the service may ask; null: a gateway, as all were before.
fn kind() -> ColumnDef {
    text_null("kind").take()
}
