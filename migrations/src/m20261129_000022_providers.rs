//! Who persons are to providers of identities, and sign-ins that are under way there.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, boolean, string_len, string_len_null, text_null};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// Names of providers in the settings.
const PROVIDER_CHARS: u32 = 32;
/// Longest subject that OpenID Connect allows, and longest issuer that is taken.
const SUBJECT_CHARS: u32 = 255;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [identities(), logins()] {
            manager.create_table(table).await?;
        }
        let index = Index::create().name("identities_person").table("identities").col("person_id").take();
        manager.create_index(index).await?;
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["logins", "identities"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Who a person is to a provider. `issuer` is the provider's address and not its name in the settings, which may change.
fn identities() -> TableCreateStatement {
    Table::create()
        .table("identities")
        .col(string_len("issuer", SUBJECT_CHARS))
        .col(string_len("subject", SUBJECT_CHARS))
        .col(string_len("person_id", ID_CHARS))
        .col(big_integer("created_at_ms"))
        .primary_key(Index::create().col("issuer").col("subject"))
        .take()
}

/// Sign-ins that are under way at a provider. The cookie's secret, of which state, nonce and the code's verifier are made, is
/// kept as a hash. `session_id` is the session that was presented, which a new one takes the place of; `connects` says that
/// its person is to be known by the provider, too. Who comes back removes the row.
fn logins() -> TableCreateStatement {
    Table::create()
        .table("logins")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(ColumnDef::new("secret_hash").blob().not_null())
        .col(string_len("provider", PROVIDER_CHARS))
        .col(text_null("return_to"))
        .col(string_len_null("invitation_id", ID_CHARS))
        .col(string_len_null("session_id", ID_CHARS))
        .col(boolean("connects"))
        .col(big_integer("expires_at_ms"))
        .take()
}
