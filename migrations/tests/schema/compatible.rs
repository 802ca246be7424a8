//! What the program of the version before meets on a newer schema.

use std::collections::BTreeMap;

use sea_orm_migration::sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection, Statement};
use souk_migrations::{Kind, Migrator, MigratorTrait as _, status};

use crate::support::on_both;

/// The columns of a schema, by table and name.
type Columns = BTreeMap<(String, String), Column>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    kind: String,
    /// Whether a row may be written that says nothing of it.
    may_be_left_out: bool,
}

async fn columns(db: &DatabaseConnection) -> Columns {
    let backend = db.get_database_backend();
    let query = match backend {
        DatabaseBackend::Postgres => {
            "SELECT table_name AS t, column_name AS c, data_type || coalesce(character_maximum_length::text, '') AS k, \
             CASE WHEN is_nullable = 'YES' OR column_default IS NOT NULL OR is_identity = 'YES' THEN 1 ELSE 0 END AS o \
             FROM information_schema.columns WHERE table_schema = 'public'"
        }
        _ => {
            "SELECT m.name AS t, c.name AS c, c.type AS k, \
             CASE WHEN c.\"notnull\" = 0 OR c.dflt_value IS NOT NULL THEN 1 ELSE 0 END AS o \
             FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
        }
    };
    let rows = db.query_all_raw(Statement::from_string(backend, query)).await.unwrap();
    let column = |row: &sea_orm_migration::sea_orm::QueryResult| {
        let text = |name: &str| row.try_get::<String>("", name).unwrap();
        let may_be_left_out = row.try_get::<i32>("", "o").unwrap() == 1;
        ((text("t"), text("c")), Column { kind: text("k"), may_be_left_out })
    };
    rows.iter().map(column).collect()
}

/// Unique indexes of a schema, as `table: columns`.
async fn unique(db: &DatabaseConnection) -> Vec<String> {
    let backend = db.get_database_backend();
    let query = match backend {
        DatabaseBackend::Postgres => {
            "SELECT tablename || ': ' || indexname AS u, tablename AS t FROM pg_indexes \
             WHERE schemaname = 'public' AND indexdef LIKE 'CREATE UNIQUE%'"
        }
        _ => {
            "SELECT m.name || ': ' || i.name AS u, m.name AS t FROM sqlite_master m \
             JOIN pragma_index_list(m.name) i WHERE m.type = 'table' AND i.\"unique\" = 1"
        }
    };
    let rows = db.query_all_raw(Statement::from_string(backend, query)).await.unwrap();
    rows.iter().map(|row| row.try_get("", "u").unwrap()).collect()
}

/// What the program before would miss.
fn lost(before: &Columns, after: &Columns) -> Vec<String> {
    let mut lost = Vec::new();
    for ((table, name), column) in before {
        match after.get(&(table.clone(), name.clone())) {
            None => lost.push(format!("{table}.{name} is gone")),
            Some(now) if now.kind != column.kind => lost.push(format!("{table}.{name} is {} now", now.kind)),
            Some(now) if column.may_be_left_out && !now.may_be_left_out => {
                lost.push(format!("{table}.{name} has to be written now"));
            }
            Some(_) => {}
        }
    }
    for ((table, name), column) in after {
        let is_new = !before.contains_key(&(table.clone(), name.clone()));
        let had_table = before.keys().any(|(of, _)| of == table);
        if is_new && had_table && !column.may_be_left_out {
            lost.push(format!("{table}.{name} is new and has to be written"));
        }
    }
    lost
}

on_both!(what_expands_takes_nothing_away_and_asks_for_nothing_new);

async fn what_expands_takes_nothing_away_and_asks_for_nothing_new(db: &DatabaseConnection) {
    for state in status(db).await.unwrap() {
        let (before, unique_before) = (columns(db).await, unique(db).await);
        Migrator::up(db, Some(1)).await.unwrap();
        let (after, unique_after) = (columns(db).await, unique(db).await);
        if state.kind == Some(Kind::Expand) {
            assert_eq!(lost(&before, &after), Vec::<String>::new(), "{} is marked expand", state.name);
            let tables_before: Vec<_> = before.keys().map(|(table, _)| format!("{table}: ")).collect();
            let of_old_table = |index: &&String| tables_before.iter().any(|table| index.starts_with(table));
            let new: Vec<_> = unique_after.iter().filter(|index| !unique_before.contains(index)).collect();
            let new: Vec<_> = new.into_iter().filter(of_old_table).collect();
            assert!(new.is_empty(), "{} is marked expand and asks for unique rows: {new:?}", state.name);
        }
    }
}

on_both!(what_is_gone_renamed_or_newly_asked_for_is_seen);

async fn what_is_gone_renamed_or_newly_asked_for_is_seen(db: &DatabaseConnection) {
    db.execute_unprepared("CREATE TABLE t (a TEXT, b TEXT)").await.unwrap();
    let before = columns(db).await;
    for (change, told) in [
        ("ALTER TABLE t RENAME COLUMN a TO c", "t.a is gone"),
        ("ALTER TABLE t DROP COLUMN b", "t.b is gone"),
        ("ALTER TABLE t ADD COLUMN d TEXT", ""),
        ("ALTER TABLE t ADD COLUMN e TEXT NOT NULL DEFAULT ''", ""),
        ("DROP TABLE t; CREATE TABLE t (a TEXT, b TEXT, f TEXT NOT NULL)", "t.f is new and has to be written"),
        ("DROP TABLE t; CREATE TABLE t (a TEXT NOT NULL, b TEXT)", "t.a has to be written now"),
        ("DROP TABLE t; CREATE TABLE t (a INTEGER, b TEXT)", "t.a is"),
    ] {
        db.execute_unprepared(&format!("DROP TABLE t; CREATE TABLE t (a TEXT, b TEXT); {change}")).await.unwrap();
        let lost = lost(&before, &columns(db).await);
        match told {
            "" => assert!(lost.is_empty(), "{change}: {lost:?}"),
            told => assert!(lost.iter().any(|line| line.starts_with(told)), "{change}: {lost:?}"),
        }
    }
}
