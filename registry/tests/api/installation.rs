//! A database and objects that do not belong together: nothing starts, and nothing is lost.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use reqwest::StatusCode;
use sea_orm::ConnectionTrait as _;
use souk_migrations::{Migrator, MigratorTrait as _};
use souk_registry::{Registry, RegistryConfig, open_sqlite};

use crate::support::{AdapterFiles, LEASE, Stack, bases, in_haste, num_objects, problem};
use tempfile::TempDir;

/// The folder of a registry that ended, with one version in it, and its tenant's key.
async fn folder_with_a_version() -> (Arc<TempDir>, String) {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    let key = acme.key.clone();
    (stack.close().await, key)
}

async fn refusal(folder: &Path) -> String {
    let mut config = RegistryConfig::new(folder);
    in_haste(&mut config);
    Registry::open_embedded(config, bases()).await.err().unwrap().to_string()
}

fn move_database(from: &Path, to: &Path) {
    for end in ["", "-wal", "-shm"] {
        let name = format!("registry.sqlite{end}");
        if from.join(&name).exists() {
            std::fs::rename(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_lost_database_is_not_replaced_by_a_new_one_that_knows_no_object() {
    let (folder, key) = folder_with_a_version().await;
    let aside = tempfile::tempdir().unwrap();
    move_database(folder.path(), aside.path());
    let message = refusal(folder.path()).await;
    assert!(message.contains("restore that database from a backup"), "{message}");
    // An empty file is a new database, too.
    move_database(folder.path(), tempfile::tempdir().unwrap().path());
    std::fs::write(folder.path().join("registry.sqlite"), b"").unwrap();
    let message = refusal(folder.path()).await;
    assert!(message.contains("restore that database from a backup"), "{message}");
    tokio::time::sleep(LEASE).await;
    assert_eq!(num_objects(folder.path()), 3);
    move_database(folder.path(), tempfile::tempdir().unwrap().path());
    move_database(aside.path(), folder.path());
    serves(folder, &key).await;
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
async fn an_older_database_lets_the_newer_objects_be_until_the_right_one_is_back() {
    let (folder, key) = folder_with_a_version().await;
    let older = tempfile::tempdir().unwrap();
    std::fs::copy(folder.path().join("registry.sqlite"), older.path().join("registry.sqlite")).unwrap();
    let stack = Stack::start_in(folder, |_| {}).await;
    stack.user(&key).publish("acme/sst2", "2.0.0", 2).await;
    let folder = stack.close().await;
    let newer = tempfile::tempdir().unwrap();
    move_database(folder.path(), newer.path());
    move_database(older.path(), folder.path());
    let num_before = num_objects(folder.path());
    let stack = Stack::start_in(folder, in_haste).await;
    // Several rounds of the collector, each of which finds the newer objects without a reference.
    tokio::time::sleep(2 * LEASE).await;
    assert_eq!(stack.num_objects(), num_before);
    let folder = stack.close().await;
    move_database(folder.path(), tempfile::tempdir().unwrap().path());
    move_database(newer.path(), folder.path());
    let stack = serves(folder, &key).await;
    let weights = "/adapters/acme/sst2/versions/2.0.0/files/adapter_model.safetensors";
    let answer = stack.user(&key).get(weights).await;
    assert_eq!(answer.bytes().await.unwrap(), AdapterFiles::tiny(2).weights_bytes());
}

#[tokio::test]
async fn an_installation_of_the_first_schema_serves_what_it_had_and_takes_more() {
    let (folder, key) = folder_with_a_version().await;
    // As the first program left it: its rows and objects, and nothing that ties them.
    let db = open_sqlite(&folder.path().join("registry.sqlite")).await.unwrap();
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

async fn serves(folder: Arc<TempDir>, key: &str) -> Stack {
    let stack = Stack::start_in(folder, in_haste).await;
    let answer = stack.user(key).get("/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    stack
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_left_alone() {
    let (folder, key) = folder_with_a_version().await;
    let db = open_sqlite(&folder.path().join("registry.sqlite")).await.unwrap();
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

/// Where the parent says which folder is meant.
const FOLDER: &str = "SOUK_TEST_FOLDER";

#[tokio::test]
#[ignore = "a part of the test below, which starts it where the disk is full or cannot be written"]
async fn refused_start() {
    let folder = std::path::PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let before = num_objects(&folder);
    let message = refusal(&folder).await;
    assert_eq!(num_objects(&folder), before);
    println!("refused with {before} objects: {message}");
}

/// A start in a copy of the folder on a small disk of its own, after `prepare` was run there.
fn start_on_small_disk(folder: &Path, prepare: &str) -> String {
    let disk = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=8m none $DISK && cp -a $FROM/. $DISK && cd $DISK && {prepare} && cd / && \
         exec $TEST installation::refused_start --exact --ignored --nocapture"
    );
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .env("DISK", disk.path())
        .env("FROM", folder)
        .env("TEST", std::env::current_exe().unwrap())
        .env(FOLDER, disk.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said.lines().find(|line| line.contains("refused with")).expect("the child says so").to_owned()
}

#[tokio::test]
#[cfg_attr(not(can_mount), ignore = "needs leave to mount: unshare --map-root-user --mount")]
async fn a_full_disk_and_one_that_cannot_be_written_refuse_the_start_and_lose_nothing() {
    let (folder, key) = folder_with_a_version().await;
    let full = start_on_small_disk(folder.path(), "{ dd if=/dev/zero of=filler bs=4k 2>/dev/null || true; }");
    assert!(full.contains("with 3 objects") && full.contains("No space left"), "{full}");
    assert!(full.contains("Free disk space") && full.contains("Nothing was changed"), "{full}");
    let fixed = start_on_small_disk(folder.path(), "mount -o remount,ro $DISK");
    assert!(fixed.contains("with 3 objects") && fixed.contains("Read-only file system"), "{fixed}");
    serves(folder, &key).await;
}
