//! Uploads whose bytes go from the client straight into the object store.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string_len};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// `sha256:` and 64 hex digits.
const DIGEST_CHARS: u32 = 71;
/// Names and version numbers.
const NAME_CHARS: u32 = 64;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(direct_uploads()).await?;
        for (name, column) in INDEXES {
            manager.create_index(Index::create().name(name).table("direct_uploads").col(column).take()).await?;
        }
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("direct_uploads").to_owned()).await
    }
}

const INDEXES: [(&str, &str); 2] = [("direct_uploads_adapter", "adapter_id"), ("direct_uploads_tenant", "tenant_id")];

/// What was announced of the weights of an upload. `expires_at_ms` is the moment, by the database's clock, until which it
/// can be completed; the lease of its row in `uploads` ends then too, except while a registry completes it. There is no
/// foreign key: a program that does not know this table ends uploads as well. A row whose upload is gone means nothing.
fn direct_uploads() -> TableCreateStatement {
    Table::create()
        .table("direct_uploads")
        .col(string_len("upload_id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("adapter_id", ID_CHARS))
        .col(string_len("version", NAME_CHARS))
        .col(string_len("digest", DIGEST_CHARS))
        .col(big_integer("size_bytes"))
        .col(big_integer("part_bytes"))
        .col(big_integer("expires_at_ms"))
        .take()
}
