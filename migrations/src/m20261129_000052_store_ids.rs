//! What object stores call uploads that go straight into them.

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
        manager.alter_table(Table::alter().table("direct_uploads").add_column(store_id()).to_owned()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("direct_uploads").drop_column("store_id").to_owned()).await
    }
}

/// The store's own id of an upload to which parts can be sent; null: an older program began it, or it is one object or
/// about to be, and the store is asked.
fn store_id() -> ColumnDef {
    text_null("store_id").take()
}
