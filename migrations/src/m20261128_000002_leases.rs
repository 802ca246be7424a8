//! Owners and leases, so that several registries share one database and one object store; who relies on which blob;
//! which objects belong to this database.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len, string_len_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// `sha256:` and 64 hex digits.
const DIGEST_CHARS: u32 = 71;
/// Names of single tasks.
const NAME_CHARS: u32 = 64;

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
        for table in [blobs(), upload_blobs(), leases(), installation()] {
            manager.create_table(table).await?;
        }
        for (name, table, column) in INDEXES {
            manager.create_index(Index::create().name(name).table(table).col(column).take()).await?;
        }
        let connection = manager.get_connection();
        for statement in [
            // What was open belonged to a process that is gone: its lease has lapsed.
            "UPDATE idempotent_requests SET lease_expires_at_ms = 0 WHERE status IS NULL",
            "INSERT INTO blobs (digest) SELECT DISTINCT digest FROM version_files",
            "INSERT INTO leases (name, owner, expires_at_ms) VALUES ('collector', '', 0)",
        ] {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, table, _) in INDEXES {
            manager.drop_index(Index::drop().name(name).table(table).to_owned()).await?;
        }
        for table in ["installation", "leases", "upload_blobs", "blobs"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        for (table, column) in
            [("uploads", "owner"), ("uploads", "lease_expires_at_ms"), ("idempotent_requests", "claim")]
                .into_iter()
                .chain([("idempotent_requests", "lease_expires_at_ms")])
        {
            manager.alter_table(Table::alter().table(table).drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}

const INDEXES: [(&str, &str, &str); 4] = [
    ("uploads_lease", "uploads", "lease_expires_at_ms"),
    ("idempotent_requests_lease", "idempotent_requests", "lease_expires_at_ms"),
    ("upload_blobs_digest", "upload_blobs", "digest"),
    ("blobs_released", "blobs", "released_at_ms"),
];

/// `owner` is the registry that works on the row, `lease_expires_at_ms` the moment, by the database's clock, after
/// which another may end it. `claim` names one taking of a key, so that a request whose claim was ended cannot keep its
/// answer in the place of a later one; a kept answer has no lease.
fn added_columns() -> [(&'static str, ColumnDef); 4] {
    [
        ("uploads", string_len("owner", ID_CHARS).default("").take()),
        ("uploads", big_integer("lease_expires_at_ms").default(0).take()),
        ("idempotent_requests", string_len_null("claim", ID_CHARS).take()),
        ("idempotent_requests", big_integer_null("lease_expires_at_ms").take()),
    ]
}

/// What is known of an object beside the rows that refer to it (`version_files` and `upload_blobs`). Who begins to rely
/// on a blob and who removes it both lock its row first. `released_at_ms` is set when somebody ended a reference to it,
/// `orphaned_at_ms` when the object was first found with no reference to it.
fn blobs() -> TableCreateStatement {
    Table::create()
        .table("blobs")
        .col(string_len("digest", DIGEST_CHARS).primary_key())
        .col(big_integer_null("released_at_ms"))
        .col(big_integer_null("orphaned_at_ms"))
        .take()
}

/// Blobs that an upload is about to put in place, or counts on finding there.
fn upload_blobs() -> TableCreateStatement {
    Table::create()
        .table("upload_blobs")
        .col(string_len("upload_id", ID_CHARS))
        .col(string_len("digest", DIGEST_CHARS))
        .primary_key(Index::create().col("upload_id").col("digest"))
        .foreign_key(ForeignKey::create().from("upload_blobs", "upload_id").to("uploads", "id"))
        .take()
}

/// Tasks of which one at a time runs among all registries of the database.
fn leases() -> TableCreateStatement {
    Table::create()
        .table("leases")
        .col(string_len("name", NAME_CHARS).primary_key())
        .col(string_len("owner", ID_CHARS))
        .col(big_integer("expires_at_ms"))
        .take()
}

/// One row: the id that the object store carries too, so that a database never judges another one's objects.
fn installation() -> TableCreateStatement {
    Table::create()
        .table("installation")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(big_integer("created_at_ms"))
        .take()
}
