//! Sessions of persons who are signed in, and the links that sign in once.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, boolean, string_len, string_len_null};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// Words of a fixed set.
const WORD_CHARS: u32 = 16;
/// What is kept of what a browser calls itself.
const CLIENT_CHARS: u32 = 200;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [sessions(), sign_in_links()] {
            manager.create_table(table).await?;
        }
        for (name, table, column) in INDEXES {
            manager.create_index(Index::create().name(name).table(table).col(column).take()).await?;
        }
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["sign_in_links", "sessions"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

const INDEXES: [(&str, &str, &str); 2] =
    [("sessions_person", "sessions", "person_id"), ("sign_in_links_person", "sign_in_links", "person_id")];

/// Who is signed in. The cookie's secret is kept as a hash. `tenant_id` is the tenant that the session acts for, chosen
/// among those of the person; a confined session has that one alone. `signed_in_by` says how. Rows are removed some
/// time after their end.
fn sessions() -> TableCreateStatement {
    Table::create()
        .table("sessions")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(ColumnDef::new("secret_hash").blob().not_null())
        .col(string_len("person_id", ID_CHARS))
        .col(string_len_null("tenant_id", ID_CHARS))
        .col(boolean("is_confined"))
        .col(string_len("signed_in_by", WORD_CHARS))
        .col(string_len_null("client", CLIENT_CHARS))
        .col(big_integer("created_at_ms"))
        .col(big_integer("used_at_ms"))
        .col(big_integer("expires_at_ms"))
        .col(big_integer_null("ended_at_ms"))
        .take()
}

/// Links that sign a person in, once. One that an owner made has the tenant that its session is confined to. `made_by` is
/// the key or session that it was made with, null for the host.
fn sign_in_links() -> TableCreateStatement {
    Table::create()
        .table("sign_in_links")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(ColumnDef::new("secret_hash").blob().not_null())
        .col(string_len("person_id", ID_CHARS))
        .col(string_len_null("tenant_id", ID_CHARS))
        .col(string_len_null("made_by", ID_CHARS))
        .col(big_integer("created_at_ms"))
        .col(big_integer("expires_at_ms"))
        .take()
}
