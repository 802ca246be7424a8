//! Each step of the schema: what it makes of the rows that are there.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{self, DatabaseConnection};
use souk_migrations::Migrator;

use crate::support::on_both;

on_both!(the_schema_goes_up_down_and_up_again);

async fn the_schema_goes_up_down_and_up_again(db: &DatabaseConnection) {
    Migrator::up(db, None).await.unwrap();
    Migrator::down(db, None).await.unwrap();
    Migrator::up(db, None).await.unwrap();
    assert!(SchemaManager::new(db).has_table("versions").await.unwrap());
}

on_both!(a_database_of_the_first_schema_keeps_its_rows_and_what_was_open_has_lapsed);

async fn a_database_of_the_first_schema_keeps_its_rows_and_what_was_open_has_lapsed(db: &DatabaseConnection) {
    Migrator::up(db, Some(1)).await.unwrap();
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
    Migrator::up(db, None).await.unwrap();
    for (what, expected) in [
        ("SELECT count(*) AS n FROM blobs WHERE digest = 'd1' AND released_at_ms IS NULL", 1),
        ("SELECT count(*) AS n FROM uploads WHERE lease_expires_at_ms = 0 AND owner = ''", 1),
        ("SELECT count(*) AS n FROM idempotent_requests WHERE lease_expires_at_ms = 0", 1),
        ("SELECT count(*) AS n FROM leases WHERE name = 'collector'", 1),
        ("SELECT count(*) AS n FROM adapters WHERE listed_as = 'private'", 1),
        ("SELECT stored_bytes AS n FROM tenants", 2),
    ] {
        let query = sea_orm::Statement::from_string(db.get_database_backend(), what);
        let found: i64 = db.query_one_raw(query).await.unwrap().unwrap().try_get("", "n").unwrap();
        assert_eq!(found, expected, "{what}");
    }
}

on_both!(a_migration_that_fails_in_its_middle_leaves_nothing_behind_and_can_be_run_again);

async fn a_migration_that_fails_in_its_middle_leaves_nothing_behind_and_can_be_run_again(db: &DatabaseConnection) {
    let mut num_made = 0;
    for (table, steps) in [("blobs", 1), ("taken_down_content", 2)] {
        Migrator::up(db, Some(steps)).await.unwrap();
        num_made += steps as usize;
        // In the way of the next one, behind the columns that it adds.
        db.execute_unprepared(&format!("CREATE TABLE {table} (x INTEGER)")).await.unwrap();
        Migrator::up(db, None).await.unwrap_err();
        db.execute_unprepared(&format!("DROP TABLE {table}")).await.unwrap();
        assert_eq!(Migrator::get_migration_models(db).await.unwrap().len(), num_made);
    }
    Migrator::up(db, None).await.unwrap();
}

on_both!(a_take_down_of_an_older_schema_is_bound_to_its_content);

async fn a_take_down_of_an_older_schema_is_bound_to_its_content(db: &DatabaseConnection) {
    Migrator::up(db, Some(2)).await.unwrap();
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
    Migrator::up(db, None).await.unwrap();
    for (what, expected) in [
        ("SELECT count(*) AS n FROM taken_down_content WHERE digest IN ('m1', 'w1') AND reason = 'stolen'", 2),
        ("SELECT count(*) AS n FROM versions WHERE id = 'v2' AND state = 'taken_down' AND state_reason = 'stolen'", 1),
        ("SELECT count(*) AS n FROM versions WHERE id = 'v3' AND state = 'ready' AND weights_digest = 'w3'", 1),
    ] {
        let query = sea_orm::Statement::from_string(db.get_database_backend(), what);
        let found: i64 = db.query_one_raw(query).await.unwrap().unwrap().try_get("", "n").unwrap();
        assert_eq!(found, expected, "{what}");
    }
}

on_both!(a_name_and_a_version_number_exist_once);

async fn a_name_and_a_version_number_exist_once(db: &DatabaseConnection) {
    Migrator::up(db, None).await.unwrap();
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
