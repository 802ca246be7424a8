//! A server that is busy, stops and starts again while registries run on it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use sea_orm::{ConnectionTrait as _, TransactionTrait as _};
use serde_json::json;
use souk_testkit::postgres::Postgres;

use crate::support::{AdapterFiles, Stack, body, in_haste, problem, wait_until};
use crate::whole::check_chains;

#[tokio::test]
async fn a_writer_that_does_not_go_on_makes_others_busy_until_the_server_ends_it() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let db = stack.database().await;
    let transaction = db.begin().await.unwrap();
    // What every transaction that writes begins with.
    transaction.execute_unprepared("SELECT pg_advisory_xact_lock(1349481835)").await.unwrap();
    let answer = stack.admin.post("/tenants", json!({ "name": "other" })).await;
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "busy").await;
    assert_eq!(acme.get("/adapters").await.status(), StatusCode::OK, "reading goes on");
    // Its registry is stalled; the server ends what it had begun.
    wait_until("writing goes on", async || {
        stack.admin.post("/tenants", json!({ "name": "other" })).await.status() == StatusCode::CREATED
    })
    .await;
    assert!(transaction.execute_unprepared("SELECT 1").await.is_err());
}

#[tokio::test]
async fn writers_of_one_tenant_wait_for_each_other_and_not_for_those_of_others() {
    let stack = Stack::start().await;
    let (acme, other) = (stack.tenant("acme").await, stack.tenant("other").await);
    other.make_adapter("sst2", "private").await;
    let id = stack.principal(&acme).await.tenant.to_string();
    let number = i32::from_ne_bytes(crc32fast::hash(id.as_bytes()).to_ne_bytes());
    let db = stack.database().await;
    let transaction = db.begin().await.unwrap();
    let lock = format!("SELECT pg_advisory_xact_lock_shared(1349481835), pg_advisory_xact_lock(1349481836, {number})");
    transaction.execute_unprepared(&lock).await.unwrap();
    other.publish("other/sst2", "1.0.0", 1).await;
    let waiting = acme.clone();
    let made = tokio::spawn(async move { waiting.make_adapter("sst2", "private").await });
    let waiters = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    wait_until("the writer waits", async || stack.number(waiters).await == 1).await;
    transaction.commit().await.unwrap();
    made.await.unwrap();
}

#[tokio::test]
async fn while_the_server_is_away_calls_answer_503_and_after_it_is_back_they_go_on() {
    let mut server = Postgres::private();
    let database = server.database();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("database-url"), database.url()).unwrap();
    let stack = Stack::start_in(folder, in_haste).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;

    server.stop();
    for _ in 0..2 {
        let answer = acme.get("/adapters").await;
        assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        let answer = body(answer, StatusCode::SERVICE_UNAVAILABLE).await;
        assert!(["busy", "connection_lost"].contains(&answer["code"].as_str().unwrap()), "{answer}");
    }
    let answer = acme.upload("acme/sst2", "2.0.0", &AdapterFiles::tiny(2)).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);

    server.start();
    wait_until("reading goes on", async || acme.get("/adapters").await.status() == StatusCode::OK).await;
    acme.publish("acme/sst2", "2.0.0", 2).await;
    let weights = "/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors";
    assert_eq!(acme.get(weights).await.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    // What the upload had begun that the outage ended is collected, too.
    wait_until("nothing is left over", async || {
        let uploads = stack.number("SELECT count(*) AS n FROM uploads").await;
        uploads == 0 && stack.num_objects() == 5
    })
    .await;
    tokio::time::timeout(Duration::from_secs(10), stack.close()).await.unwrap();
}

#[tokio::test]
async fn a_text_with_the_one_character_that_postgresql_has_not_is_refused() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let answer = acme.post("/adapters", json!({ "name": "sst2", "description": "a\u{0}b" })).await;
    problem(answer, StatusCode::BAD_REQUEST, "invalid_text").await;
    problem(acme.get("/adapters/acme/%00").await, StatusCode::BAD_REQUEST, "invalid_text").await;
    problem(acme.get("/adapters?search=%00").await, StatusCode::BAD_REQUEST, "invalid_text").await;
}

/// Runs those lines of the recipe in docs/operate.md that begin with this word, in a folder.
fn run_of_recipe(word: &str, data_dir: &Path, at: &Path) {
    let page = include_str!("../../../docs/operate.md");
    let block = page.split("```sh\n").find(|block| block.contains("pg_dump")).unwrap().split("```").next().unwrap();
    let lines: Vec<&str> = block.lines().filter(|line| line.starts_with(word)).collect();
    assert!(!lines.is_empty(), "{block}");
    let script = lines.join("\n").replace("DATA_DIR", data_dir.to_str().unwrap());
    let mut shell = std::process::Command::new("sh");
    assert!(shell.args(["-eu", "-c", &script]).current_dir(at).status().unwrap().success(), "{script}");
}

#[tokio::test]
async fn a_backup_of_database_objects_and_keys_is_restored_and_serves_what_it_had() {
    let first = Postgres::shared().database();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("database-url"), first.url()).unwrap();
    let stack = Stack::start_in(folder, |_| {}).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let made = acme.publish("acme/sst2", "1.0.0", 1).await;
    // Its secret is sealed: without the sealing key a start would be refused.
    let manager = stack.key_for("acme", &["tenant:manage"]).await;
    let hook =
        body(manager.post("/webhooks", json!({ "url": "https://hooks.invalid/" })).await, StatusCode::CREATED).await;
    // The database first, while it is in use; then what it refers to.
    let at = tempfile::tempdir().unwrap();
    run_of_recipe("umask", stack.folder.path(), at.path());
    first.dump(&at.path().join("backup/souk.dump"));
    acme.publish("acme/sst2", "2.0.0", 2).await;
    run_of_recipe("cp", stack.folder.path(), at.path());
    let (key, num_objects) = (acme.key.clone(), stack.num_objects());
    let (admin, manager) = (stack.admin.key.clone(), manager.key);
    let num_entries = check_chains(&stack.admin).await;
    drop((stack.close().await, first));

    let second = Postgres::shared().database();
    second.restore(&at.path().join("backup/souk.dump"));
    let restored = Arc::new(tempfile::tempdir().unwrap());
    for name in ["objects", "key-pepper", "sealing-key"] {
        std::fs::rename(at.path().join("backup").join(name), restored.path().join(name)).unwrap();
    }
    std::fs::write(restored.path().join("database-url"), second.url()).unwrap();
    let stack = Stack::start_in(restored, in_haste).await;
    let acme = stack.user(&key);
    // The entry of what came after the backup is the one that is missing.
    assert_eq!(check_chains(&stack.user(&admin)).await, num_entries - 1);
    let hooks = body(stack.user(&manager).get("/webhooks").await, StatusCode::OK).await;
    assert_eq!(hooks["data"][0]["id"], hook["id"]);
    assert_eq!(body(acme.get("/adapters/acme/sst2/versions/1.0.0").await, StatusCode::OK).await, made);
    let weights = "/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors";
    assert_eq!(acme.get(weights).await.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    // What came after the backup is not there, and its objects are kept.
    problem(acme.get("/adapters/acme/sst2/versions/2.0.0").await, StatusCode::NOT_FOUND, "not_found").await;
    assert_eq!(stack.num_objects(), num_objects);
    acme.publish("acme/sst2", "2.0.0", 2).await;
}
