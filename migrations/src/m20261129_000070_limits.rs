//! Teams, and what tenants, teams, members and keys may use in a period.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, big_integer_null, string_len, string_len_null};

use crate::byte_order;

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Opaque ids print as a short prefix and 32 hex digits.
const ID_CHARS: u32 = 40;
/// Names of teams.
const NAME_CHARS: u32 = 64;
/// Words of a fixed set.
const WORD_CHARS: u32 = 16;
/// Names of what is limited.
const POLICY_CHARS: u32 = 40;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [teams(), limits(), tenant_limits()] {
            manager.create_table(table).await?;
        }
        let name = Index::create().name("teams_name").table("teams").col("tenant_id").col("name").unique().take();
        manager.create_index(name).await?;
        // Whose a limit is can be asked without its tenant: ids of teams and keys are of one tenant alone.
        let subject = Index::create().name("limits_subject").table("limits").col("level").col("subject_id").take();
        manager.create_index(subject).await?;
        for table in OF_TEAMS {
            let team = string_len_null("team_id", ID_CHARS).take();
            manager.alter_table(Table::alter().table(table).add_column(team).to_owned()).await?;
        }
        byte_order::of_all_columns(manager).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in OF_TEAMS {
            manager.alter_table(Table::alter().table(table).drop_column("team_id").to_owned()).await?;
        }
        for table in ["tenant_limits", "limits", "teams"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// What may be of a team: a member with all that is the person's, and a service's key. `team_id` is null where it is of none.
const OF_TEAMS: [&str; 2] = ["members", "api_keys"];

/// Some members and keys of a tenant, with limits of their own. Names are unique within a tenant.
fn teams() -> TableCreateStatement {
    Table::create()
        .table("teams")
        .col(string_len("id", ID_CHARS).primary_key())
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("name", NAME_CHARS))
        .col(big_integer("created_at_ms"))
        .foreign_key(ForeignKey::create().from("teams", "tenant_id").to("tenants", "id"))
        .take()
}

/// What one subject may use of one thing in its period. `level` is `tenant`, `team`, `member` or `key`, `subject_id` the id of
/// that tenant, team, person or key; `tenant_id` is the tenant whose they are. `soft` is from where it is told and nothing
/// refused, null for nowhere; `mode` is `enforce` or `shadow`. No row: no limit, or the installation's default for tenants.
fn limits() -> TableCreateStatement {
    Table::create()
        .table("limits")
        .col(string_len("tenant_id", ID_CHARS))
        .col(string_len("level", WORD_CHARS))
        .col(string_len("subject_id", ID_CHARS))
        .col(string_len("policy", POLICY_CHARS))
        .col(big_integer("value"))
        .col(big_integer_null("soft"))
        .col(string_len("mode", WORD_CHARS))
        .col(big_integer("updated_at_ms"))
        .primary_key(Index::create().col("tenant_id").col("level").col("subject_id").col("policy"))
        .foreign_key(ForeignKey::create().from("limits", "tenant_id").to("tenants", "id"))
        .take()
}

/// What is a tenant's alone beside its limits: how much it weighs at gates, most tokens of one answer (null: the
/// installation's default), and whether answers may be kept to be given again (1, else 0). A tenant without a row weighs 1
/// and keeps none.
fn tenant_limits() -> TableCreateStatement {
    Table::create()
        .table("tenant_limits")
        .col(string_len("tenant_id", ID_CHARS).primary_key())
        .col(big_integer("gate_weight"))
        .col(big_integer_null("output_ceiling"))
        .col(big_integer("keeps_answers"))
        .col(big_integer("updated_at_ms"))
        .foreign_key(ForeignKey::create().from("tenant_limits", "tenant_id").to("tenants", "id"))
        .take()
}
