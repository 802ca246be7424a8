//! The queries of the release before, as text in `queries/`, on the schema of now. Each was taken from a server's log while all
//! tests of the registry's API ran on it (`queries/README.md` says how).

use sea_orm_migration::sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection};
use souk_migrations::{Migrator, MigratorTrait as _};

use crate::support::on_both;

/// The release's name is that of its last migration.
const QUERIES: &str = include_str!("../../queries/m20261129_000002_byte_order.sql");

/// One a line; `--` begins a remark.
fn queries() -> impl Iterator<Item = &'static str> {
    QUERIES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("--"))
}

/// The same query as SQLite is asked it: it locks no rows, and its clock and its texts are written in another way.
fn for_sqlite(query: &str) -> String {
    let clock = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
    let query = query.replace(" FOR UPDATE", "").replace(r"E'\\'", r"'\'");
    query.replace(clock, "CAST(unixepoch('subsec') * 1000 AS INTEGER)")
}

on_both!(every_query_of_the_release_before_is_understood);

async fn every_query_of_the_release_before_is_understood(db: &DatabaseConnection) {
    Migrator::up(db, None).await.unwrap();
    let mut num_asked = 0;
    for query in queries() {
        // Both look up every table and column, and ask for no values.
        let asked = match db.get_database_backend() {
            DatabaseBackend::Postgres => format!("PREPARE q{num_asked} AS {query}"),
            _ => format!("EXPLAIN {}", for_sqlite(query)),
        };
        if let Err(error) = db.execute_unprepared(&asked).await {
            panic!("a query of the release before fails: {query}: {error}");
        }
        num_asked += 1;
    }
    assert!(num_asked > 50, "{num_asked}");
}

on_both!(a_query_of_what_is_no_more_is_found);

async fn a_query_of_what_is_no_more_is_found(db: &DatabaseConnection) {
    Migrator::up(db, None).await.unwrap();
    // What a migration would do that is no expanding one.
    db.execute_unprepared("ALTER TABLE tags RENAME COLUMN updated_at_ms TO changed_at_ms").await.unwrap();
    let of_tags = queries().filter(|query| query.contains("\"updated_at_ms\"") && query.contains("\"tags\""));
    let mut num_failed = 0;
    for (number, query) in of_tags.enumerate() {
        let asked = match db.get_database_backend() {
            DatabaseBackend::Postgres => format!("PREPARE q{number} AS {query}"),
            _ => format!("EXPLAIN {}", for_sqlite(query)),
        };
        num_failed += usize::from(db.execute_unprepared(&asked).await.is_err());
    }
    assert!(num_failed > 0);
}
