//! `souk migrate` on the server's host: how far the database is, a trial, and bringing it up to date.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use sea_orm::ConnectionTrait as _;
use serde_json::Value;
use souk_registry::{Registry, RegistryConfig, open_sqlite};

const NEWEST: &str = "m20261129_000002_byte_order";

fn migrate(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_souk"));
    command.arg("migrate").args(arguments).arg("--data-dir").arg(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

async fn sql(folder: &Path, statement: &str) {
    let db = open_sqlite(&folder.join("registry.sqlite")).await.unwrap();
    db.execute_unprepared(statement).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn what_is_pending_is_told_tried_and_made() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let absent = migrate(folder, &[]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains("not the data folder of an installation"), "{}", text(&absent.stderr));
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "a look makes nothing");

    let registry = Registry::open_embedded(RegistryConfig::new(folder), Vec::new()).await.unwrap();
    registry.close().await;
    let current = migrate(folder, &["status"]);
    assert_eq!(current.status.code(), Some(0), "{}", text(&current.stderr));
    assert!(text(&current.stdout).contains(NEWEST) && !text(&current.stdout).contains("pending"));

    sql(folder, &format!("DELETE FROM seaql_migrations WHERE version = '{NEWEST}'")).await;
    let pending = migrate(folder, &["--json"]);
    assert_eq!(pending.status.code(), Some(3), "{}", text(&pending.stderr));
    let states: Value = serde_json::from_slice(&pending.stdout).unwrap();
    let last = states["migrations"].as_array().unwrap().iter().find(|state| state["name"] == NEWEST).unwrap();
    assert_eq!((&last["kind"], &last["made_at"]), (&Value::from("expand"), &Value::Null));

    let tried = migrate(folder, &["up", "--dry-run"]);
    assert_eq!(tried.status.code(), Some(0), "{}", text(&tried.stderr));
    assert!(text(&tried.stdout).contains(NEWEST) && text(&tried.stderr).contains("Nothing was changed"));
    assert_eq!(migrate(folder, &["status"]).status.code(), Some(3), "a trial is taken back");
    assert_eq!(migrate(folder, &["up"]).status.code(), Some(0));
    assert_eq!(migrate(folder, &["status"]).status.code(), Some(0));

    sql(folder, "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20990101_000001_later', 0)").await;
    let newer = migrate(folder, &["status"]);
    assert_eq!(newer.status.code(), Some(4));
    let line = text(&newer.stdout).lines().find(|line| line.starts_with("m20990101_000001_later"));
    assert!(line.is_some_and(|line| line.contains("unknown")), "{}", text(&newer.stdout));
    let refused = migrate(folder, &["up"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("m20990101_000001_later"), "{}", text(&refused.stderr));
}
