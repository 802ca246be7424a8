//! Persons, what they are in which tenant, and who is asked to become a member.

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
/// Longest name of a person.
const NAME_CHARS: u32 = 200;
/// Longest e-mail address that can be sent to.
const EMAIL_CHARS: u32 = 254;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [persons(), members(), invitations()] {
            manager.create_table(table).await?;
        }
        for (name, table, column) in INDEXES {
            manager.create_index(Index::create().name(name).table(table).col(column).take()).await?;
        }
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["invitations", "members", "persons"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

const INDEXES: [(&str, &str, &str); 3] = [
    ("members_person", "members", "person_id"),
    ("invitations_tenant", "invitations", "tenant_id"),
    ("invitations_accepted_by", "invitations", "accepted_by"),
];

/// A person's row is never removed, since others refer to its id. Who is erased has neither name nor address any more.
/// `email_is_verified` says that a provider of identities vouched for the address; one of an invitation's is hearsay.
fn persons() -> TableCreateStatement {
    Table::create()
        .table("persons")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len_null("name", NAME_CHARS))
        .col(string_len_null("email", EMAIL_CHARS))
        .col(boolean("email_is_verified"))
        .col(big_integer("created_at_ms"))
        .col(big_integer_null("erased_at_ms"))
        .take()
}

/// Who is what in which tenant. The row goes when the member leaves.
fn members() -> TableCreateStatement {
    Table::create()
        .table("members")
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("person_id", ID_CHARS))
        .col(string_len("role", WORD_CHARS))
        .col(big_integer("joined_at_ms"))
        .primary_key(Index::create().col("tenant_id").col("person_id"))
        .foreign_key(&mut of_tenant("members"))
        .take()
}

/// Who is asked to become a member. Of the link's secret the hash is kept. `made_by` is the key or session that it was
/// made with. A row stays when it was used; the address goes when the person is erased who used it.
fn invitations() -> TableCreateStatement {
    Table::create()
        .table("invitations")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len_null("email", EMAIL_CHARS))
        .col(string_len("role", WORD_CHARS))
        .col(ColumnDef::new("secret_hash").blob().not_null())
        .col(string_len("made_by", ID_CHARS))
        .col(big_integer("created_at_ms"))
        .col(big_integer("expires_at_ms"))
        .col(big_integer_null("accepted_at_ms"))
        .col(string_len_null("accepted_by", ID_CHARS))
        .col(big_integer_null("revoked_at_ms"))
        .foreign_key(&mut of_tenant("invitations"))
        .take()
}

/// What goes with its tenant.
fn of_tenant(table: &'static str) -> ForeignKeyCreateStatement {
    let mut key = ForeignKey::create();
    key.from(table, "tenant_id").to("tenants", "id").on_delete(ForeignKeyAction::Cascade);
    key
}
