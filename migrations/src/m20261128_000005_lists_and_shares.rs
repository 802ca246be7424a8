//! What keeps lists short to read however much there is, and what tells how much a tenant has stored.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, string_len};

/// See the module.
#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Words of a fixed set.
const WORD_CHARS: u32 = 16;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in added_columns() {
            manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await?;
        }
        for (name, columns) in INDEXES {
            let mut index = Index::create().name(name).table("adapters").take();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        let connection = manager.get_connection();
        for statement in FILLED_IN {
            connection.execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (name, _) in INDEXES {
            manager.drop_index(Index::drop().name(name).table("adapters").to_owned()).await?;
        }
        for (table, column) in [("adapters", "listed_as"), ("tenants", "stored_bytes")] {
            manager.alter_table(Table::alter().table(table).drop_column(column).to_owned()).await?;
        }
        Ok(())
    }
}

/// `listed_as` is what the list of models has an adapter as: its visibility while it is there and has a ready version,
/// else nothing. `stored_bytes` are the sizes of the files of a tenant's versions; what several versions share counts
/// for each.
fn added_columns() -> [(&'static str, ColumnDef); 2] {
    [
        ("adapters", string_len("listed_as", WORD_CHARS).default("").take()),
        ("tenants", big_integer("stored_bytes").default(0).take()),
    ]
}

/// For the list of models, with all that it has of each; for pages of public adapters, and for a tenant's own.
const INDEXES: [(&str, &[&str]); 3] = [
    ("adapters_listed", &["listed_as", "owner", "name", "tenant_id", "created_at_ms"]),
    ("adapters_visible", &["visibility", "deleted_at_ms", "owner", "name"]),
    ("adapters_tenant", &["tenant_id", "deleted_at_ms", "owner", "name"]),
];

const FILLED_IN: [&str; 2] = [
    "UPDATE adapters SET listed_as = visibility WHERE deleted_at_ms IS NULL AND EXISTS \
     (SELECT 1 FROM versions v WHERE v.adapter_id = adapters.id AND v.state = 'ready')",
    "UPDATE tenants SET stored_bytes = COALESCE((SELECT CAST(SUM(f.size_bytes) AS BIGINT) FROM version_files f \
     JOIN versions v ON v.id = f.version_id JOIN adapters a ON a.id = v.adapter_id \
     WHERE a.tenant_id = tenants.id), 0)",
];
