//! Where events are sent, and how far each is on its way.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, integer, integer_null, string_len, string_len_null, text, text_null,
};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// Words of a fixed set.
const WORD_CHARS: u32 = 32;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [webhook_endpoints(), webhook_deliveries()] {
            manager.create_table(table).await?;
        }
        for (name, table, columns) in INDEXES {
            let mut index = Index::create().name(name).table(table).take();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name("outbox_tenant").table("outbox").to_owned()).await?;
        for table in ["webhook_deliveries", "webhook_endpoints"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

const INDEXES: [(&str, &str, &[&str]); 5] = [
    ("webhook_endpoints_tenant", "webhook_endpoints", &["tenant_id", "id"]),
    // What is due for an endpoint, and its list.
    ("webhook_deliveries_due", "webhook_deliveries", &["endpoint_id", "state", "due_at_ms"]),
    ("webhook_deliveries_endpoint", "webhook_deliveries", &["endpoint_id", "id"]),
    ("webhook_deliveries_event", "webhook_deliveries", &["event_id"]),
    ("outbox_tenant", "outbox", &["tenant_id", "id"]),
];

/// `kinds` are names with spaces between, none for all. The secrets are sealed, each under the key whose version stands
/// beside it; `…_before` is the one that signs too until a moment. `failing_since_ms` is null while the last try was a success.
fn webhook_endpoints() -> TableCreateStatement {
    Table::create()
        .table("webhook_endpoints")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(text("url"))
        .col(text("description"))
        .col(text("kinds"))
        .col(ColumnDef::new("sealed_secret").blob().not_null())
        .col(integer("seal_version"))
        .col(ColumnDef::new("sealed_secret_before").blob())
        .col(integer_null("seal_version_before"))
        .col(big_integer_null("secret_before_until_ms"))
        .col(string_len("state", WORD_CHARS))
        .col(text_null("paused_reason"))
        .col(big_integer_null("failing_since_ms"))
        .col(big_integer("created_at_ms"))
        .col(big_integer("updated_at_ms"))
        .foreign_key(ForeignKey::create().from("webhook_endpoints", "tenant_id").to("tenants", "id"))
        .take()
}

/// A row for each event and each endpoint that wants it, written with the event. `claim` and `due_at_ms` are the lease of who
/// tries it.
fn webhook_deliveries() -> TableCreateStatement {
    Table::create()
        .table("webhook_deliveries")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("endpoint_id", ID_CHARS))
        .col(string_len("event_id", ID_CHARS))
        .col(string_len_null("replay_of", ID_CHARS))
        .col(string_len("state", WORD_CHARS))
        .col(integer("num_attempts"))
        .col(big_integer("due_at_ms"))
        .col(string_len_null("claim", ID_CHARS))
        .col(big_integer("created_at_ms"))
        .col(big_integer_null("attempted_at_ms"))
        .col(big_integer_null("ended_at_ms"))
        .col(integer_null("answer_status"))
        .col(text_null("answer_excerpt"))
        .col(string_len_null("failure", WORD_CHARS))
        .foreign_key(ForeignKey::create().from("webhook_deliveries", "endpoint_id").to("webhook_endpoints", "id"))
        .take()
}
