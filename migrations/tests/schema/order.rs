//! Texts sort by their bytes, whatever language the database was made for.

use sea_orm_migration::sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection, Statement};
use souk_migrations::{Migrator, MigratorTrait as _};

use crate::support::on_both;

on_both!(every_text_sorts_by_its_bytes);

async fn every_text_sorts_by_its_bytes(db: &DatabaseConnection) {
    Migrator::up(db, None).await.unwrap();
    let backend = db.get_database_backend();
    let mut names = ["b", "a-c", "ab", "a.b", "a_b", "aB", "Z", "a", "é", "a-b"];
    for name in names {
        let insert = format!("INSERT INTO tenants (id, name, created_at_ms) VALUES ('{name}', '{name}', 0)");
        db.execute_unprepared(&insert).await.unwrap();
    }
    let query = Statement::from_string(backend, "SELECT name FROM tenants ORDER BY name");
    let rows = db.query_all_raw(query).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.try_get("", "name").unwrap()).collect();
    names.sort_unstable();
    assert_eq!(found, names);
    if backend == DatabaseBackend::Postgres {
        // A migration that adds a text without `byte_order::of_all_columns` is found here.
        let query = "SELECT c.relname || '.' || a.attname AS name FROM pg_attribute a \
                     JOIN pg_class c ON c.oid = a.attrelid JOIN pg_collation o ON o.oid = a.attcollation \
                     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND o.collname <> 'C' \
                     AND c.relname <> 'seaql_migrations'";
        let others = db.query_all_raw(Statement::from_string(backend, query)).await.unwrap();
        let others: Vec<String> = others.iter().map(|row| row.try_get("", "name").unwrap()).collect();
        assert_eq!(others, Vec::<String>::new());
    }
}
