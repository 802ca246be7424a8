//! A database and objects that do not belong together: nothing starts, and nothing is lost.

use std::path::Path;
use std::sync::Arc;

use reqwest::StatusCode;
use sea_orm::ConnectionTrait as _;
use souk_migrations::{Migrator, MigratorTrait as _};
use souk_registry::Registry;

use crate::support::{AdapterFiles, LEASE, Stack, bases, config_in, database_of, in_haste, num_objects, problem};
use tempfile::TempDir;

/// The folder of a registry that ended, with one version in it, and its tenant's key.
pub(crate) async fn folder_with_a_version() -> (Arc<TempDir>, String) {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let key = acme.key.clone();
    (stack.close().await, key)
}

pub(crate) async fn refusal(folder: &Path) -> String {
    let mut config = config_in(folder);
    in_haste(&mut config);
    Registry::open_embedded(config, bases()).await.err().unwrap().to_string()
}

#[tokio::test]
async fn lost_objects_are_told_before_anybody_asks_for_them() {
    let (folder, key) = folder_with_a_version().await;
    let aside = tempfile::tempdir().unwrap();
    std::fs::rename(folder.path().join("objects"), aside.path().join("objects")).unwrap();
    let message = refusal(folder.path()).await;
    assert!(message.contains("restore the objects from a backup"), "{message}");
    std::fs::remove_dir_all(folder.path().join("objects")).unwrap();
    std::fs::rename(aside.path().join("objects"), folder.path().join("objects")).unwrap();
    serves(folder, &key).await;
}

#[tokio::test]
async fn the_objects_of_another_installation_are_refused_with_both_ids() {
    let (folder, key) = folder_with_a_version().await;
    let tag = folder.path().join("objects/installation");
    let id = std::fs::read_to_string(&tag).unwrap();
    std::fs::write(&tag, "ins_other\n").unwrap();
    let message = refusal(folder.path()).await;
    assert!(message.contains(id.trim()) && message.contains("ins_other"), "{message}");
    std::fs::write(&tag, id).unwrap();
    serves(folder, &key).await;
}

#[tokio::test]
async fn an_installation_of_the_first_schema_serves_what_it_had_and_takes_more() {
    let (folder, key) = folder_with_a_version().await;
    // As the first program left it: its rows and objects, and nothing that ties them.
    let db = database_of(folder.path()).await;
    let num_later = u32::try_from(Migrator::migrations().len() - 1).unwrap();
    Migrator::down(&db, Some(num_later)).await.unwrap();
    db.close().await.unwrap();
    std::fs::remove_file(folder.path().join("objects/installation")).unwrap();
    let stack = serves(folder, &key).await;
    let acme = stack.user(&key);
    acme.publish("acme/sst2", "2.0.0", 2).await;
    let reference = "acme/sst2@1.0.0".parse().unwrap();
    let resolved = stack.registry.resolve(&stack.principal(&acme).await, &reference).await.unwrap();
    assert_eq!(stack.registry.chat_template(&resolved).await.unwrap(), None);
    // The collector finds that everything is referred to.
    tokio::time::sleep(LEASE).await;
    let stack = serves(stack.close().await, &key).await;
    assert_eq!(stack.num_objects(), 3 + 2);
}

pub(crate) async fn serves(folder: Arc<TempDir>, key: &str) -> Stack {
    let stack = Stack::start_in(folder, in_haste).await;
    let answer = stack.user(key).get("/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    stack
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_left_alone() {
    let (folder, key) = folder_with_a_version().await;
    let db = database_of(folder.path()).await;
    let add = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m20990101_000001_later', 0)";
    db.execute_unprepared(add).await.unwrap();
    let message = refusal(folder.path()).await;
    assert!(message.contains("newer version") && message.contains("m20990101_000001_later"), "{message}");
    assert_eq!(num_objects(folder.path()), 3);
    db.execute_unprepared("DELETE FROM seaql_migrations WHERE version = 'm20990101_000001_later'").await.unwrap();
    serves(folder, &key).await;
}

#[tokio::test]
async fn objects_that_are_older_than_the_database_are_told_missing_and_the_others_serve() {
    let (folder, key) = folder_with_a_version().await;
    let stack = Stack::start_in(folder, |_| {}).await;
    let acme = stack.user(&key);
    let newer = acme.publish("acme/sst2", "2.0.0", 2).await;
    for file in newer["files"].as_array().unwrap() {
        let hex = file["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let object = stack.folder.path().join("objects/sha256").join(&hex[..2]).join(hex);
        if file["name"] != "adapter_config.json" {
            std::fs::remove_file(object).unwrap();
        }
    }
    let stack = serves(stack.close().await, &key).await;
    let weights = stack.user(&key).get("/adapters/acme/sst2/versions/2.0.0/files/adapter_model.safetensors").await;
    problem(weights, StatusCode::INTERNAL_SERVER_ERROR, "object_missing").await;
}
