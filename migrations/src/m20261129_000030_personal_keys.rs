//! Whose a key is, which models it may call, what became of it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{string_len_null, text_null};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// Words of a fixed set.
const WORD_CHARS: u32 = 16;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column per statement.
        for column in added_columns() {
            manager.alter_table(Table::alter().table("api_keys").add_column(column).to_owned()).await?;
        }
        let of_person = Index::create().name(OF_PERSON).table("api_keys").col("tenant_id").col("person_id").take();
        manager.create_index(of_person).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(OF_PERSON).table("api_keys").to_owned()).await?;
        for column in ["revoked_for", "replaced_by", "models", "person_id"] {
            manager.alter_table(Table::alter().table("api_keys").drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}

const OF_PERSON: &str = "api_keys_person";

/// `person_id` is whose the key is, null for a service's. `models` are patterns with spaces between, null for all that the
/// tenant may call. `replaced_by` is the key that follows it, `revoked_for` why it was revoked, null where somebody just
/// asked for it.
fn added_columns() -> [ColumnDef; 4] {
    [
        string_len_null("person_id", ID_CHARS).take(),
        text_null("models").take(),
        string_len_null("replaced_by", ID_CHARS).take(),
        string_len_null("revoked_for", WORD_CHARS).take(),
    ]
}
