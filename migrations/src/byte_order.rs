//! Texts sort and compare by their bytes on either database. SQLite does so; PostgreSQL sorts by the rules of the language
//! that its database was made with, unless the column says `COLLATE "C"`. Pages of lists go on where the last one ended by
//! that order, and programs merge lists by it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseBackend, Statement};

/// Gives every column of text that has another order that of bytes. To be called by each migration that adds one.
pub(crate) async fn of_all_columns(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    if manager.get_database_backend() != DatabaseBackend::Postgres {
        return Ok(());
    }
    let connection = manager.get_connection();
    let query = "SELECT format('ALTER TABLE %I ALTER COLUMN %I TYPE %s COLLATE \"C\"', c.relname, a.attname, \
                 format_type(a.atttypid, a.atttypmod)) AS statement \
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_collation o ON o.oid = a.attcollation \
                 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND NOT a.attisdropped \
                 AND o.collname <> 'C' AND c.relname <> 'seaql_migrations' ORDER BY c.relname, a.attnum";
    for row in connection.query_all_raw(Statement::from_string(DatabaseBackend::Postgres, query)).await? {
        let statement: String = row.try_get("", "statement")?;
        connection.execute_unprepared(&statement).await?;
    }
    Ok(())
}
