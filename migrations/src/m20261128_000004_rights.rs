//! Rights that are bound to the thing: content that was taken down stays so under any name, keys know who made them,
//! and what is withdrawn is told to every registry of the database.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_pk_auto, string_len, string_len_null, text};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// `sha256:` and 64 hex digits.
const DIGEST_CHARS: u32 = 71;
/// Words of a fixed set.
const WORD_CHARS: u32 = 16;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column per statement.
        for (table, column) in added_columns() {
            manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await?;
        }
        for table in [taken_down_content(), withdrawals()] {
            manager.create_table(table).await?;
        }
        for (name, table, column) in INDEXES {
            manager.create_index(Index::create().name(name).table(table).col(column).take()).await?;
        }
        let connection = manager.get_connection();
        for statement in BOUND_TO_CONTENT {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, table, _) in INDEXES {
            manager.drop_index(Index::drop().name(name).table(table).to_owned()).await?;
        }
        for table in ["withdrawals", "taken_down_content"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        for (table, column) in [("versions", "weights_digest"), ("api_keys", "revoked_by"), ("api_keys", "made_by")] {
            manager.alter_table(Table::alter().table(table).drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}

const INDEXES: [(&str, &str, &str); 3] = [
    ("api_keys_made_by", "api_keys", "made_by"),
    ("versions_digest", "versions", "digest"),
    ("versions_weights", "versions", "weights_digest"),
];

/// What was taken down before is bound to its content, and other versions of the same content go with it.
const BOUND_TO_CONTENT: [&str; 4] = [
    "UPDATE versions SET weights_digest = (SELECT f.digest FROM version_files f \
     WHERE f.version_id = versions.id AND f.name = 'adapter_model.safetensors')",
    "INSERT INTO taken_down_content (digest, version_id, reason, taken_down_at_ms) \
     SELECT digest, MIN(id), COALESCE(MIN(state_reason), ''), MIN(state_changed_at_ms) FROM versions \
     WHERE state = 'taken_down' GROUP BY digest",
    "INSERT INTO taken_down_content (digest, version_id, reason, taken_down_at_ms) \
     SELECT weights_digest, MIN(id), COALESCE(MIN(state_reason), ''), MIN(state_changed_at_ms) FROM versions \
     WHERE state = 'taken_down' AND weights_digest IS NOT NULL GROUP BY weights_digest",
    "UPDATE versions SET state = 'taken_down', \
     state_reason = (SELECT t.reason FROM taken_down_content t WHERE t.digest = versions.weights_digest) \
     WHERE state IN ('ready', 'yanked') AND weights_digest IN (SELECT digest FROM taken_down_content)",
];

/// `made_by` is the key that a key was made with, null for one that the host made; `revoked_by` the key that revoked
/// it. `weights_digest` stays when a version is deleted and its files are gone.
fn added_columns() -> [(&'static str, ColumnDef); 3] {
    [
        ("api_keys", string_len_null("made_by", ID_CHARS).take()),
        ("api_keys", string_len_null("revoked_by", ID_CHARS).take()),
        ("versions", string_len_null("weights_digest", DIGEST_CHARS).take()),
    ]
}

/// Content that is served and published no more, by the digests of manifests and of weights files. A row is never
/// removed: it outlives the version, which its owner may delete.
fn taken_down_content() -> TableCreateStatement {
    Table::create()
        .table("taken_down_content")
        .col(string_len("digest", DIGEST_CHARS).primary_key())
        .col(string_len("version_id", ID_CHARS))
        .col(text("reason"))
        .col(string_len_null("by_key", ID_CHARS))
        .col(big_integer("taken_down_at_ms"))
        .take()
}

/// What has just been withdrawn, in the order of its commit, for registries in other processes to hear of: `kind` says
/// whether `subject` is the digest of a version or the id of a key. Old rows are removed; the state is elsewhere.
fn withdrawals() -> TableCreateStatement {
    Table::create()
        .table("withdrawals")
        .col(big_pk_auto("id"))
        .col(string_len("kind", WORD_CHARS))
        .col(string_len("subject", DIGEST_CHARS))
        .col(string_len("told_by", ID_CHARS))
        .col(big_integer("withdrawn_at_ms"))
        .take()
}
