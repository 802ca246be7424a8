//! Which person made an invitation or a link: nobody uses what somebody made who is a member no more.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::string_len_null;

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
        for table in ["invitations", "sign_in_links"] {
            manager.alter_table(Table::alter().table(table).add_column(made_by_person()).to_owned()).await?;
        }
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["invitations", "sign_in_links"] {
            manager.alter_table(Table::alter().table(table).drop_column("made_by_person").to_owned()).await?;
        }
        Ok(())
    }
}

/// Null for what a service's key, the host or an older program made.
fn made_by_person() -> ColumnDef {
    string_len_null("made_by_person", ID_CHARS).take()
}
