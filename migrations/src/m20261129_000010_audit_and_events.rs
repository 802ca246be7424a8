//! Who changed what, and what is told of it: the chains of audit entries, and the outbox.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_pk_auto, string_len, string_len_null, text};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// 64 hex digits.
const HASH_CHARS: u32 = 64;
/// Words of a fixed set.
const WORD_CHARS: u32 = 16;
/// Names of actions and of kinds of events.
const KIND_CHARS: u32 = 64;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [audit_entries(), audit_heads(), outbox()] {
            manager.create_table(table).await?;
        }
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["outbox", "audit_heads", "audit_entries"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// One change each, numbered from 1 within its chain, never changed. `tenant_id` names the chain: a tenant's id, or the
/// word for the installation's own. It refers to no row, since entries outlive what they tell of. `hash` is over the hash
/// of the entry before and all other columns.
fn audit_entries() -> TableCreateStatement {
    Table::create()
        .table("audit_entries")
        .col(string_len("tenant_id", ID_CHARS))
        .col(big_integer("number"))
        .col(big_integer("at_ms"))
        .col(string_len("actor_kind", WORD_CHARS))
        .col(string_len("actor_id", ID_CHARS))
        .col(string_len_null("actor_key", ID_CHARS))
        .col(string_len("action", KIND_CHARS))
        .col(text("subject"))
        .col(text("details"))
        .col(string_len("hash", HASH_CHARS))
        .primary_key(Index::create().col("tenant_id").col("number"))
        .take()
}

/// Where each chain ends. Its row is locked by whoever appends.
fn audit_heads() -> TableCreateStatement {
    Table::create()
        .table("audit_heads")
        .col(string_len("tenant_id", ID_CHARS).primary_key())
        .col(big_integer("number"))
        .col(string_len("hash", HASH_CHARS))
        .take()
}

/// What is to be told outside, written with the change that it tells of.
fn outbox() -> TableCreateStatement {
    Table::create()
        .table("outbox")
        .col(big_pk_auto("id"))
        .col(string_len("event_id", ID_CHARS).unique_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("kind", KIND_CHARS))
        .col(text("subject"))
        .col(text("payload"))
        .col(big_integer("emitted_at_ms"))
        .take()
}
