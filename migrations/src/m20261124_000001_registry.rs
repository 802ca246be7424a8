//! Tenants, keys, adapters, versions with their files and tags, uploads in flight, remembered answers.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, integer, string_len, string_len_null, text, text_null};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// `sha256:` and 64 hex digits.
const DIGEST_CHARS: u32 = 71;
/// Names of tenants and adapters, tags, version numbers.
const NAME_CHARS: u32 = 64;
/// Words of a fixed set: states, visibilities.
const WORD_CHARS: u32 = 16;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in
            [tenants(), api_keys(), adapters(), versions(), version_files(), tags(), uploads(), idempotent_requests()]
        {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Children before parents.
        for table in
            ["idempotent_requests", "uploads", "tags", "version_files", "versions", "adapters", "api_keys", "tenants"]
        {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// A tenant's name is the `owner` half of its adapters' names, and never changes.
fn tenants() -> TableCreateStatement {
    Table::create()
        .table("tenants")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("name", NAME_CHARS).unique_key())
        .col(big_integer("created_at_ms"))
        .take()
}

/// Only a keyed hash of the secret is kept. `id` is the public half that the key text carries.
fn api_keys() -> TableCreateStatement {
    Table::create()
        .table("api_keys")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(text("name"))
        .col(text("scopes"))
        .col(ColumnDef::new("secret_hash").blob().not_null())
        .col(integer("pepper_version"))
        .col(string_len("last_four", 4))
        .col(big_integer("created_at_ms"))
        .col(big_integer_null("expires_at_ms"))
        .col(big_integer_null("revoked_at_ms"))
        .col(big_integer_null("last_used_at_ms"))
        .foreign_key(ForeignKey::create().from("api_keys", "tenant_id").to("tenants", "id"))
        .take()
}

/// A deleted adapter keeps its row (`deleted_at_ms`), and with it its name: names are never reusable.
/// `owner` repeats the tenant's name so that a lookup by `owner/name` and the listing order need no join.
fn adapters() -> TableCreateStatement {
    Table::create()
        .table("adapters")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("owner", NAME_CHARS))
        .col(string_len("name", NAME_CHARS))
        .col(string_len("visibility", WORD_CHARS))
        .col(text("description"))
        .col(big_integer("created_at_ms"))
        .col(big_integer("updated_at_ms"))
        .col(big_integer_null("deleted_at_ms"))
        .foreign_key(ForeignKey::create().from("adapters", "tenant_id").to("tenants", "id"))
        .take()
}

/// Only complete versions have a row: one transaction makes it after all bytes are in place. A deleted version keeps
/// its row (state `deleted`), and with it its number.
fn versions() -> TableCreateStatement {
    Table::create()
        .table("versions")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("adapter_id", ID_CHARS))
        .col(string_len("version", NAME_CHARS))
        .col(string_len("state", WORD_CHARS))
        .col(string_len("digest", DIGEST_CHARS))
        .col(string_len("base_digest", DIGEST_CHARS))
        .col(integer("rank"))
        .col(text_null("state_reason"))
        .col(big_integer("created_at_ms"))
        .col(big_integer("state_changed_at_ms"))
        .foreign_key(ForeignKey::create().from("versions", "adapter_id").to("adapters", "id"))
        .take()
}

/// The files of a version, the manifest included. A blob is referenced while a row here names its digest.
fn version_files() -> TableCreateStatement {
    Table::create()
        .table("version_files")
        .col(string_len("version_id", ID_CHARS))
        .col(string_len("name", NAME_CHARS))
        .col(string_len("digest", DIGEST_CHARS))
        .col(big_integer("size_bytes"))
        .primary_key(Index::create().col("version_id").col("name"))
        .foreign_key(ForeignKey::create().from("version_files", "version_id").to("versions", "id"))
        .take()
}

/// Mutable names for versions.
fn tags() -> TableCreateStatement {
    Table::create()
        .table("tags")
        .col(string_len("adapter_id", ID_CHARS))
        .col(string_len("tag", NAME_CHARS))
        .col(string_len("version_id", ID_CHARS))
        .col(big_integer("updated_at_ms"))
        .primary_key(Index::create().col("adapter_id").col("tag"))
        .foreign_key(ForeignKey::create().from("tags", "adapter_id").to("adapters", "id"))
        .foreign_key(ForeignKey::create().from("tags", "version_id").to("versions", "id"))
        .take()
}

/// Uploads in flight, in state `uploading` or `validating`. The unique (adapter, version) makes one of two uploads of
/// the same number win.
fn uploads() -> TableCreateStatement {
    Table::create()
        .table("uploads")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("adapter_id", ID_CHARS))
        .col(string_len("version", NAME_CHARS))
        .col(string_len("state", WORD_CHARS))
        .col(big_integer("started_at_ms"))
        .foreign_key(ForeignKey::create().from("uploads", "adapter_id").to("adapters", "id"))
        .take()
}

/// Answers kept for `Idempotency-Key`. `status` is null while the first request is still running.
fn idempotent_requests() -> TableCreateStatement {
    Table::create()
        .table("idempotent_requests")
        .col(string_len("tenant_id", ID_CHARS))
        .col(text("route"))
        .col(text("idempotency_key"))
        .col(string_len_null("body_digest", DIGEST_CHARS))
        .col(ColumnDef::new("status").integer().null())
        .col(text_null("response"))
        .col(big_integer("created_at_ms"))
        .primary_key(Index::create().col("tenant_id").col("route").col("idempotency_key"))
        .take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let index = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut statement = Index::create().name(name).table(table).take();
        for column in columns {
            statement.col(*column);
        }
        statement
    };
    vec![
        index("api_keys_tenant", "api_keys", &["tenant_id"]),
        index("adapters_owner_name", "adapters", &["owner", "name"]).unique().take(),
        index("versions_adapter_version", "versions", &["adapter_id", "version"]).unique().take(),
        index("versions_adapter_digest", "versions", &["adapter_id", "digest"]),
        index("version_files_digest", "version_files", &["digest"]),
        index("tags_version", "tags", &["version_id"]),
        index("uploads_adapter_version", "uploads", &["adapter_id", "version"]).unique().take(),
        index("idempotent_requests_age", "idempotent_requests", &["created_at_ms"]),
    ]
}
