//! What was used: a row for each request and each of its jobs, sums by the day, and the sums that budgets are.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, integer, string_len, string_len_null, text};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// A tenant's id, a slash and a person's.
const SUBJECT_CHARS: u32 = 2 * ID_CHARS + 1;
/// `sha256:` and 64 hex digits.
const DIGEST_CHARS: u32 = 71;
/// Words of a fixed set.
const WORD_CHARS: u32 = 32;
/// `2026-11-29` or `2026-11`.
const PERIOD_CHARS: u32 = 10;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [usage_requests(), usage_jobs(), usage_days(), usage_totals()] {
            manager.create_table(table).await?;
        }
        // What is read of a tenant is read by time.
        let by_time = Index::create().name("usage_requests_tenant").table("usage_requests").col("tenant_id").take();
        manager.create_index(by_time.to_owned().col("admitted_at_ms").col("id").take()).await?;
        // Few requests have one.
        let by_repeat = "CREATE INDEX usage_requests_repeat ON usage_requests (tenant_id, repeat_digest) \
                         WHERE repeat_digest IS NOT NULL";
        manager.get_connection().execute_unprepared(by_repeat).await?;
        let by_tenant = Index::create().name("usage_totals_tenant").table("usage_totals").col("tenant_id").take();
        manager.create_index(by_tenant).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["usage_totals", "usage_days", "usage_jobs", "usage_requests"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// One for each request that was queued. It refers to no row: what was used was used, whatever became of the tenant and the
/// key. `repeat_digest` is null for requests without an `Idempotency-Key`, `person_id` for those of services, `team_id` for
/// those that no team's limits bound. `shadowed` is JSON: the limits in shadow mode that would have refused it.
fn usage_requests() -> TableCreateStatement {
    Table::create()
        .table("usage_requests")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("key_id", ID_CHARS))
        .col(string_len_null("person_id", ID_CHARS))
        .col(string_len_null("team_id", ID_CHARS))
        .col(string_len("operation", WORD_CHARS))
        .col(text("model"))
        .col(big_integer("admitted_at_ms"))
        .col(big_integer("ended_at_ms"))
        .col(string_len_null("repeat_digest", DIGEST_CHARS))
        .col(text("shadowed"))
        .col(big_integer("charged_input_tokens"))
        .col(big_integer("charged_output_tokens"))
        .take()
}

/// Its jobs, which go with it. `adapters` is JSON: digests in the order in which they acted.
fn usage_jobs() -> TableCreateStatement {
    let mut of_request = ForeignKey::create()
        .from("usage_jobs", "request_id")
        .to("usage_requests", "id")
        .on_delete(ForeignKeyAction::Cascade)
        .take();
    Table::create()
        .table("usage_jobs")
        .col(string_len("request_id", ID_CHARS))
        .col(big_integer("job_index"))
        .col(string_len("base", DIGEST_CHARS))
        .col(text("adapters"))
        .col(string_len("outcome", WORD_CHARS))
        .col(big_integer("prompt_tokens"))
        .col(big_integer("cached_tokens"))
        .col(big_integer("computed_tokens"))
        .col(big_integer("delivered_tokens"))
        .col(big_integer("charged_input_tokens"))
        .col(big_integer("charged_output_tokens"))
        .col(big_integer("attempts"))
        .col(big_integer_null("first_token_ms"))
        .col(big_integer("took_ms"))
        .primary_key(Index::create().col("request_id").col("job_index"))
        .foreign_key(&mut of_request)
        .take()
}

/// Sums over the rows of a day of UTC, moved in the rows' own transaction, that stay when rows go. Nobody's person and no
/// team are empty texts. `closed` is 1 from when rows of the day may be gone: then they are all that is known of it.
fn usage_days() -> TableCreateStatement {
    let mut table = Table::create();
    table
        .table("usage_days")
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("day", PERIOD_CHARS))
        .col(string_len("key_id", ID_CHARS))
        .col(string_len("person_id", ID_CHARS))
        .col(string_len("team_id", ID_CHARS))
        .col(string_len("base", DIGEST_CHARS))
        .col(text("adapters"))
        .col(string_len("outcome", WORD_CHARS));
    let sums = ["requests", "jobs", "prompt_tokens", "cached_tokens", "computed_tokens", "delivered_tokens"];
    for sum in sums.into_iter().chain(["charged_input_tokens", "charged_output_tokens"]) {
        table.col(big_integer(sum));
    }
    let mut key = Index::create();
    for column in ["tenant_id", "day", "key_id", "person_id", "team_id", "base", "adapters", "outcome"] {
        key.col(column);
    }
    table.col(integer("closed")).primary_key(&mut key).take()
}

/// What somebody used in a day or a month, which budgets are held to. `version` counts the changes; `told` has a bit for each
/// threshold that was told of.
fn usage_totals() -> TableCreateStatement {
    Table::create()
        .table("usage_totals")
        .col(string_len("level", WORD_CHARS))
        .col(string_len("subject_id", SUBJECT_CHARS))
        .col(string_len("period", PERIOD_CHARS))
        .col(string_len("unit", WORD_CHARS))
        .col(string_len("tenant_id", ID_CHARS))
        .col(big_integer("amount"))
        .col(big_integer("version"))
        .col(integer("told"))
        .primary_key(Index::create().col("level").col("subject_id").col("period").col("unit"))
        .take()
}
