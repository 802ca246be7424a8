//! Hooks: what tenants publish, where it is attached, what it did and said.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len, string_len_null, text, text_null};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// Names of tenants and hooks.
const NAME_CHARS: u32 = 64;
/// Words of a fixed set.
const WORD_CHARS: u32 = 16;
/// `sha256:` and 64 hex digits.
const DIGEST_CHARS: u32 = 80;
/// Semantic versions.
const VERSION_CHARS: u32 = 128;
/// A word and an id, or a path.
const TARGET_CHARS: u32 = 80;
/// A day of UTC, `2026-11-29`.
const DAY_CHARS: u32 = 16;
/// Names of failures.
const CODE_CHARS: u32 = 40;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [hooks(), hook_grants(), hook_versions(), pipelines(), hook_settings(), hook_days(), hook_lines()];
        for table in tables {
            manager.create_table(table).await?;
        }
        for (name, table, columns, is_unique) in INDEXES {
            let mut index = Index::create().name(name).table(table).take();
            for column in columns {
                index.col(*column);
            }
            if is_unique {
                index.unique();
            }
            manager.create_index(index).await?;
        }
        // What hooks did in a request, as JSON; null where none acted.
        let hooks = text_null("hooks").take();
        manager.alter_table(Table::alter().table("usage_requests").add_column(hooks).to_owned()).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table("usage_requests").drop_column("hooks").to_owned()).await?;
        for table in ["hook_lines", "hook_days", "hook_settings", "pipelines", "hook_versions", "hook_grants", "hooks"]
        {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Names and numbers are given once; lists are read in the order of owners and names; blobs are looked up by their digests.
const INDEXES: [(&str, &str, &[&str], bool); 9] = [
    ("hooks_name", "hooks", &["owner", "name"], true),
    ("hooks_tenant", "hooks", &["tenant_id", "name"], false),
    ("hooks_visibility", "hooks", &["visibility", "owner", "name"], false),
    ("hook_grants_tenant", "hook_grants", &["tenant_id", "owner", "name"], false),
    ("hook_versions_number", "hook_versions", &["hook_id", "version"], true),
    ("hook_versions_digest", "hook_versions", &["digest"], false),
    ("hook_versions_artifact", "hook_versions", &["artifact_digest"], false),
    ("hook_lines_hook", "hook_lines", &["hook_id", "id"], false),
    ("hook_lines_tenant", "hook_lines", &["tenant_id"], false),
];

/// A name, who may see and attach it: `private`, `shared` or `public`. A deleted hook keeps its row, and with it its name.
/// `made_by` is a key or session, or `installation` for what an installation begins with.
fn hooks() -> TableCreateStatement {
    Table::create()
        .table("hooks")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("owner", NAME_CHARS))
        .col(string_len("name", NAME_CHARS))
        .col(string_len("visibility", WORD_CHARS))
        .col(text("description"))
        .col(string_len("made_by", ID_CHARS))
        .col(big_integer("created_at_ms"))
        .col(big_integer("updated_at_ms"))
        .col(big_integer_null("deleted_at_ms"))
        .foreign_key(ForeignKey::create().from("hooks", "tenant_id").to("tenants", "id"))
        .take()
}

/// That a tenant may attach a shared hook of another. `owner` and `name` repeat the hook's, which never change.
fn hook_grants() -> TableCreateStatement {
    Table::create()
        .table("hook_grants")
        .col(string_len("hook_id", ID_CHARS))
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("owner", NAME_CHARS))
        .col(string_len("name", NAME_CHARS))
        .col(big_integer("granted_at_ms"))
        .col(string_len("granted_by", ID_CHARS))
        .primary_key(Index::create().col("hook_id").col("tenant_id"))
        .foreign_key(ForeignKey::create().from("hook_grants", "hook_id").to("hooks", "id"))
        .foreign_key(ForeignKey::create().from("hook_grants", "tenant_id").to("tenants", "id"))
        .take()
}

/// A version, immutable once `ready`. `digest` is that of its component, a blob; `artifact_digest` is another, what that was
/// compiled to for an `engine`, sealed. While it is `validating` it is `worked_on_by` a registry under a lease, and reserves its
/// number; what is rejected leaves no row. One that was deleted keeps its row, and with it its number. `report` is JSON.
fn hook_versions() -> TableCreateStatement {
    Table::create()
        .table("hook_versions")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("hook_id", ID_CHARS))
        .col(string_len("version", VERSION_CHARS))
        .col(string_len("state", WORD_CHARS))
        .col(text_null("state_reason"))
        .col(string_len("digest", DIGEST_CHARS))
        .col(big_integer("size_bytes"))
        .col(string_len_null("engine", DIGEST_CHARS))
        .col(string_len_null("artifact_digest", DIGEST_CHARS))
        .col(big_integer("artifact_bytes").default(0))
        .col(text_null("report"))
        .col(big_integer("created_at_ms"))
        .col(big_integer("state_changed_at_ms"))
        .col(string_len_null("worked_on_by", ID_CHARS))
        .col(big_integer_null("lease_expires_at_ms"))
        .foreign_key(ForeignKey::create().from("hook_versions", "hook_id").to("hooks", "id"))
        .take()
}

/// The steps that a tenant attached somewhere, a row for each change. `target` is `tenant`, `key/…` with the key's id,
/// `route/…` with the route's path, or `version/…` with the id of a version of one of its adapters. `is_current` is 1 for the
/// last number of a target, else 0. `steps` is JSON; `restored` is the number that a rollback took them from.
fn pipelines() -> TableCreateStatement {
    Table::create()
        .table("pipelines")
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("target", TARGET_CHARS))
        .col(big_integer("number"))
        .col(big_integer("is_current"))
        .col(text("steps"))
        .col(big_integer_null("restored"))
        .col(string_len("made_by", ID_CHARS))
        .col(big_integer("made_at_ms"))
        .primary_key(Index::create().col("tenant_id").col("target").col("number"))
        .foreign_key(ForeignKey::create().from("pipelines", "tenant_id").to("tenants", "id"))
        .take()
}

/// What hooks read of a tenant: `variables`, an object as JSON. `log_readers` is a list of tenants' ids that may read what their
/// hooks say in its requests.
fn hook_settings() -> TableCreateStatement {
    Table::create()
        .table("hook_settings")
        .col(string_len("tenant_id", ID_CHARS).primary_key())
        .col(text("variables"))
        .col(text("log_readers"))
        .col(big_integer("updated_at_ms"))
        .foreign_key(ForeignKey::create().from("hook_settings", "tenant_id").to("tenants", "id"))
        .take()
}

/// What a version did in a day, in whoever's requests. It refers to nothing, as rows of usage do.
fn hook_days() -> TableCreateStatement {
    Table::create()
        .table("hook_days")
        .col(string_len("version_id", ID_CHARS))
        .col(string_len("day", DAY_CHARS))
        .col(big_integer("calls"))
        .col(big_integer("failures"))
        .col(big_integer("skipped"))
        .col(big_integer("refusals"))
        .col(big_integer("fuel"))
        .primary_key(Index::create().col("version_id").col("day"))
        .take()
}

/// What a hook said and how it failed, for its owner; the last ones of each hook. `kind` is a level of a log, or `failed`; `code`
/// and `part` are a failure's. `tenant_id` is whose request it was in; `request_id` and `text` are there for requests of the
/// owner, or of who granted that.
fn hook_lines() -> TableCreateStatement {
    Table::create()
        .table("hook_lines")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("hook_id", ID_CHARS))
        .col(string_len("version", VERSION_CHARS))
        .col(string_len("tenant_id", ID_CHARS))
        .col(big_integer("at_ms"))
        .col(string_len_null("request_id", ID_CHARS))
        .col(string_len("kind", WORD_CHARS))
        .col(string_len_null("part", WORD_CHARS))
        .col(string_len_null("code", CODE_CHARS))
        .col(text_null("text"))
        .foreign_key(ForeignKey::create().from("hook_lines", "hook_id").to("hooks", "id"))
        .take()
}
