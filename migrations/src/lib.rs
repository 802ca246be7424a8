//! The SQL schema of the registry, as ordered migrations. No queries and no row types: those live in `registry/src/db`.
//!
//! Begin with [`Migrator`], then read the first migration from top to bottom: it is the data model. A migration that
//! was released is never edited; a change is a new file at the end of the list. Each is one transaction, so that a start
//! that ends in the middle of one (a kill, a full disk) leaves the schema before it, and the next start goes on from there.
//!
//! Types are the ones that SQLite and PostgreSQL share: text, 64-bit integers, bytes. Moments are milliseconds since
//! the Unix epoch in columns named `…_at_ms`, which sort and compare alike in both.

mod m20261124_000001_registry;
mod m20261128_000002_leases;
mod m20261128_000003_version_reports;
mod m20261128_000004_rights;
mod m20261128_000005_lists_and_shares;
mod m20261129_000001_signing_keys;

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::sea_orm::{DatabaseConnection, DbErr};
use sea_orm_migration::{MigrationTrait, SchemaManager, async_trait};

/// All migrations, oldest first. `Migrator::up(&db, None)` brings a database of any age to the current schema.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_registry::Migration),
            Box::new(m20261128_000002_leases::Migration),
            Box::new(m20261128_000003_version_reports::Migration),
            Box::new(m20261128_000004_rights::Migration),
            Box::new(m20261128_000005_lists_and_shares::Migration),
            Box::new(m20261129_000001_signing_keys::Migration),
        ]
    }
}

/// The names of migrations that a newer program made and this one does not know. With any, the database is not this
/// program's to use.
///
/// # Errors
/// What the database says.
pub async fn from_a_newer_program(db: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    if !SchemaManager::new(db).has_table("seaql_migrations").await? {
        return Ok(Vec::new());
    }
    let known: Vec<_> = Migrator::migrations().iter().map(|migration| migration.name().to_owned()).collect();
    let made = Migrator::get_migration_models(db).await?;
    Ok(made.into_iter().map(|migration| migration.version).filter(|name| !known.contains(name)).collect())
}

#[cfg(test)]
mod tests {
    use sea_orm_migration::prelude::*;
    use sea_orm_migration::sea_orm::{ConnectionTrait, Database};

    use super::*;

    #[tokio::test]
    async fn the_schema_goes_up_down_and_up_again() {
        let db = Database::connect("sqlite::memory:").await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        Migrator::down(&db, None).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        assert!(SchemaManager::new(&db).has_table("versions").await.unwrap());
    }

    #[tokio::test]
    async fn a_database_of_the_first_schema_keeps_its_rows_and_what_was_open_has_lapsed() {
        let db = Database::connect("sqlite::memory:").await.unwrap();
        Migrator::up(&db, Some(1)).await.unwrap();
        db.execute_unprepared(
            "INSERT INTO tenants (id, name, created_at_ms) VALUES ('t', 'acme', 0);
             INSERT INTO adapters (id, tenant_id, owner, name, visibility, description, created_at_ms, updated_at_ms)
             VALUES ('a', 't', 'acme', 'sst2', 'private', '', 0, 0);
             INSERT INTO versions (id, adapter_id, version, state, digest, base_digest, rank, created_at_ms, state_changed_at_ms)
             VALUES ('v', 'a', '1.0.0', 'ready', 'd', 'b', 1, 0, 0);
             INSERT INTO version_files (version_id, name, digest, size_bytes) VALUES ('v', 'x', 'd1', 1), ('v', 'y', 'd1', 1);
             INSERT INTO uploads (id, adapter_id, version, state, started_at_ms) VALUES ('u', 'a', '2.0.0', 'uploading', 0);
             INSERT INTO idempotent_requests (tenant_id, route, idempotency_key, created_at_ms) VALUES ('t', 'r', 'open', 0);
             INSERT INTO idempotent_requests (tenant_id, route, idempotency_key, body_digest, status, response, created_at_ms)
             VALUES ('t', 'r', 'kept', 'd', 201, '{}', 0)",
        )
        .await
        .unwrap();
        Migrator::up(&db, None).await.unwrap();
        for (what, expected) in [
            ("SELECT count(*) AS n FROM blobs WHERE digest = 'd1' AND released_at_ms IS NULL", 1),
            ("SELECT count(*) AS n FROM uploads WHERE lease_expires_at_ms = 0 AND owner = ''", 1),
            ("SELECT count(*) AS n FROM idempotent_requests WHERE lease_expires_at_ms = 0", 1),
            ("SELECT count(*) AS n FROM leases WHERE name = 'collector'", 1),
            ("SELECT count(*) AS n FROM adapters WHERE listed_as = 'private'", 1),
            ("SELECT stored_bytes AS n FROM tenants", 2),
        ] {
            let query = sea_orm_migration::sea_orm::Statement::from_string(db.get_database_backend(), what);
            let found: i64 = db.query_one_raw(query).await.unwrap().unwrap().try_get("", "n").unwrap();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[tokio::test]
    async fn a_migration_that_fails_in_its_middle_leaves_nothing_behind_and_can_be_run_again() {
        let db = Database::connect("sqlite::memory:").await.unwrap();
        let mut num_made = 0;
        for (table, steps) in [("blobs", 1), ("taken_down_content", 2)] {
            Migrator::up(&db, Some(steps)).await.unwrap();
            num_made += steps as usize;
            // In the way of the next one, behind the columns that it adds.
            db.execute_unprepared(&format!("CREATE TABLE {table} (x INTEGER)")).await.unwrap();
            Migrator::up(&db, None).await.unwrap_err();
            db.execute_unprepared(&format!("DROP TABLE {table}")).await.unwrap();
            assert_eq!(Migrator::get_migration_models(&db).await.unwrap().len(), num_made);
        }
        Migrator::up(&db, None).await.unwrap();
    }

    #[tokio::test]
    async fn a_take_down_of_an_older_schema_is_bound_to_its_content() {
        let db = Database::connect("sqlite::memory:").await.unwrap();
        Migrator::up(&db, Some(2)).await.unwrap();
        db.execute_unprepared(
            "INSERT INTO tenants (id, name, created_at_ms) VALUES ('t', 'acme', 0);
             INSERT INTO adapters (id, tenant_id, owner, name, visibility, description, created_at_ms, updated_at_ms)
             VALUES ('a', 't', 'acme', 'sst2', 'private', '', 0, 0);
             INSERT INTO versions (id, adapter_id, version, state, digest, base_digest, rank, state_reason, created_at_ms, state_changed_at_ms)
             VALUES ('v1', 'a', '1.0.0', 'taken_down', 'm1', 'b', 1, 'stolen', 0, 5),
                    ('v2', 'a', '2.0.0', 'ready', 'm2', 'b', 1, NULL, 0, 0),
                    ('v3', 'a', '3.0.0', 'ready', 'm3', 'b', 1, NULL, 0, 0);
             INSERT INTO version_files (version_id, name, digest, size_bytes)
             VALUES ('v1', 'adapter_model.safetensors', 'w1', 1), ('v2', 'adapter_model.safetensors', 'w1', 1),
                    ('v3', 'adapter_model.safetensors', 'w3', 1)",
        )
        .await
        .unwrap();
        Migrator::up(&db, None).await.unwrap();
        for (what, expected) in [
            ("SELECT count(*) AS n FROM taken_down_content WHERE digest IN ('m1', 'w1') AND reason = 'stolen'", 2),
            (
                "SELECT count(*) AS n FROM versions WHERE id = 'v2' AND state = 'taken_down' AND state_reason = 'stolen'",
                1,
            ),
            ("SELECT count(*) AS n FROM versions WHERE id = 'v3' AND state = 'ready' AND weights_digest = 'w3'", 1),
        ] {
            let query = sea_orm_migration::sea_orm::Statement::from_string(db.get_database_backend(), what);
            let found: i64 = db.query_one_raw(query).await.unwrap().unwrap().try_get("", "n").unwrap();
            assert_eq!(found, expected, "{what}");
        }
    }

    #[tokio::test]
    async fn a_name_and_a_version_number_exist_once() {
        let db = Database::connect("sqlite::memory:").await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        db.execute_unprepared("INSERT INTO tenants (id, name, created_at_ms) VALUES ('t1', 'acme', 0)").await.unwrap();
        let adapter = |id: &str| {
            format!(
                "INSERT INTO adapters (id, tenant_id, owner, name, visibility, description, created_at_ms, updated_at_ms) \
                 VALUES ('{id}', 't1', 'acme', 'sst2', 'private', '', 0, 0)"
            )
        };
        db.execute_unprepared(&adapter("a1")).await.unwrap();
        assert!(db.execute_unprepared(&adapter("a2")).await.is_err());
        let upload = |id: &str| {
            format!(
                "INSERT INTO uploads (id, adapter_id, version, state, started_at_ms) \
                 VALUES ('{id}', 'a1', '1.0.0', 'uploading', 0)"
            )
        };
        db.execute_unprepared(&upload("u1")).await.unwrap();
        assert!(db.execute_unprepared(&upload("u2")).await.is_err());
    }
}
