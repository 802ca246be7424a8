//! Who may call whose adapters: what was granted, what gated adapters ask, who asked and what was decided.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len, string_len_null, text, text_null};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// Names of tenants and adapters.
const NAME_CHARS: u32 = 64;
/// Words of a fixed set.
const WORD_CHARS: u32 = 16;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [adapter_grants(), adapter_gates(), access_requests()] {
            manager.create_table(table).await?;
        }
        for (name, table, columns) in INDEXES {
            let mut index = Index::create().name(name).table(table).take();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        // `owner/name` of an adapter that a tenant may call no more.
        let adapter = text_null("adapter").take();
        manager.alter_table(Table::alter().table("withdrawals").add_column(adapter).to_owned()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("withdrawals").drop_column("adapter").to_owned()).await?;
        for table in ["access_requests", "adapter_gates", "adapter_grants"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// What a tenant was granted, in the order of its list of adapters; the requests of a tenant, and those for its adapters.
const INDEXES: [(&str, &str, &[&str]); 4] = [
    ("adapter_grants_request", "adapter_grants", &["request_id"]),
    ("adapter_grants_tenant", "adapter_grants", &["tenant_id", "owner", "name"]),
    ("access_requests_tenant", "access_requests", &["tenant_id", "id"]),
    ("access_requests_owner", "access_requests", &["owner_id", "id"]),
];

/// That a tenant may call a shared or gated adapter of another, until `expires_at_ms` if that is set. `owner` and `name` repeat
/// the adapter's, which never change, so that what a tenant was granted is read in order. `request_id` is the request that
/// it was granted for.
fn adapter_grants() -> TableCreateStatement {
    Table::create()
        .table("adapter_grants")
        .col(string_len("adapter_id", ID_CHARS))
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("owner", NAME_CHARS))
        .col(string_len("name", NAME_CHARS))
        .col(big_integer_null("expires_at_ms"))
        .col(text("note"))
        .col(big_integer("granted_at_ms"))
        .col(string_len("granted_by", ID_CHARS))
        .col(string_len_null("request_id", ID_CHARS))
        .primary_key(Index::create().col("adapter_id").col("tenant_id"))
        .foreign_key(ForeignKey::create().from("adapter_grants", "adapter_id").to("adapters", "id"))
        .foreign_key(ForeignKey::create().from("adapter_grants", "tenant_id").to("tenants", "id"))
        .take()
}

/// What is asked of who asks for access to an adapter: `questions` as JSON, and within how many days the owner means to
/// answer.
fn adapter_gates() -> TableCreateStatement {
    Table::create()
        .table("adapter_gates")
        .col(string_len("adapter_id", ID_CHARS).primary_key())
        .col(text("questions"))
        .col(big_integer("answer_within_days"))
        .col(big_integer("updated_at_ms"))
        .foreign_key(ForeignKey::create().from("adapter_gates", "adapter_id").to("adapters", "id"))
        .take()
}

/// A tenant asks for access. `answers` are JSON, each with the question as it stood; `decided_by` is the key or session, and
/// `decided_by_person` the person. `owner_id` repeats the adapter's tenant.
fn access_requests() -> TableCreateStatement {
    Table::create()
        .table("access_requests")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("adapter_id", ID_CHARS))
        .col(string_len("owner_id", ID_CHARS))
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("state", WORD_CHARS))
        .col(text("answers"))
        .col(string_len("asked_by", ID_CHARS))
        .col(string_len_null("asked_by_person", ID_CHARS))
        .col(big_integer("asked_at_ms"))
        .col(big_integer("due_at_ms"))
        .col(string_len_null("decided_by", ID_CHARS))
        .col(string_len_null("decided_by_person", ID_CHARS))
        .col(big_integer_null("decided_at_ms"))
        .col(text_null("reason"))
        .foreign_key(ForeignKey::create().from("access_requests", "adapter_id").to("adapters", "id"))
        .foreign_key(ForeignKey::create().from("access_requests", "tenant_id").to("tenants", "id"))
        .take()
}
