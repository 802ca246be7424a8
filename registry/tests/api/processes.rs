//! Two registries in processes of their own, on one database and one folder: killed, stopped and started together.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use souk_testkit_s3::S3Server;

use crate::process::{Process, Start};
use crate::support::{
    AdapterFiles, LEASE, body, config_in, database_of, halting_form, num_objects, number_of, problem, wait_until,
};
use crate::whole::check_whole_on;

/// Far longer than two more processes need to start and to answer.
const LONG_LEASE: Duration = Duration::from_secs(600);

/// Two processes that started together, and the key of a tenant with an adapter.
async fn two(folder: &Path, starts: [Start<'_>; 2]) -> (Process, Process, String) {
    // Before they start, so that both have the same database.
    drop(config_in(folder));
    let children = starts.map(|start| Process::begin(folder, start));
    let [first, second] = children.map(Process::ready);
    let made = [&first, &second].map(|process| process.key.clone()).into_iter().filter(|key| !key.is_empty());
    let [admin] = &made.collect::<Vec<_>>()[..] else { panic!("not one admin key was made") };
    let (admin, at_second) = (first.user(admin), second.user(admin));
    assert_eq!(admin.post("/tenants", json!({ "name": "acme" })).await.status(), StatusCode::CREATED);
    let request = json!({ "name": "test", "scopes": ["adapters:read", "adapters:write"], "tenant": "acme" });
    let made = body(at_second.post("/keys", request).await, StatusCode::CREATED).await;
    let key = made["secret"].as_str().unwrap().to_owned();
    first.user(&key).make_adapter("sst2", "private").await;
    (first, second, key)
}

fn num_staged(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("objects/staging")).unwrap().count()
}

#[tokio::test]
async fn what_a_killed_process_had_begun_is_ended_after_its_lease_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let long = Start { lease: Some(LONG_LEASE), ..Start::default() };
    let (first, second, key) = two(folder.path(), [long, Start::default()]).await;
    let (at_first, at_second) = (first.user(&key), second.user(&key));
    let (form, _never) = halting_form("1.0.0", 1);
    let request = at_first.request(Method::POST, "/adapters/acme/sst2/versions").header("idempotency-key", "k");
    let upload = tokio::spawn(request.multipart(form).send());
    wait_until("the upload has begun", async || num_staged(folder.path()) == 1).await;
    let repeat = async |key: &str| {
        let request = at_second.request(Method::POST, "/adapters/acme/sst2/versions").header("idempotency-key", key);
        request.multipart(AdapterFiles::tiny(1).form("1.0.0")).send().await.unwrap()
    };

    first.signal("KILL");
    assert!(upload.await.unwrap().is_err());
    // Another one starts at once; it removes nothing either.
    let third = Process::start(folder.path(), Start::default()).await;
    assert_eq!(num_staged(folder.path()), 1);
    problem(repeat("k").await, StatusCode::CONFLICT, "idempotency_in_flight").await;
    problem(repeat("other").await, StatusCode::CONFLICT, "upload_in_progress").await;
    // The leases of the first are over, that of its collector, too.
    let lapsed_at = std::time::Instant::now();
    let db = database_of(folder.path()).await;
    db.execute_unprepared("UPDATE leases SET expires_at_ms = 1").await.unwrap();
    db.execute_unprepared("UPDATE uploads SET lease_expires_at_ms = 1").await.unwrap();
    db.execute_unprepared("UPDATE idempotent_requests SET lease_expires_at_ms = 1 WHERE status IS NULL").await.unwrap();
    // One may be set free a round before the other.
    wait_until("what the first had staged is gone", async || num_staged(folder.path()) == 0).await;
    // It is looked at twice, half a lease of the second's apart.
    assert!(lapsed_at.elapsed() >= LEASE / 2, "{:?}", lapsed_at.elapsed());
    wait_until("the second takes over", async || repeat("k").await.status() == StatusCode::CREATED).await;
    let replayed = repeat("k").await;
    assert_eq!(replayed.headers()["idempotency-replayed"], "true");
    assert_eq!(third.user(&key).get("/adapters/acme/sst2/versions/1.0.0").await.status(), StatusCode::OK);
    assert_eq!(num_objects(folder.path()), 3);
}

#[tokio::test]
async fn a_process_that_stalled_for_longer_than_its_lease_cannot_publish_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, key) = two(folder.path(), [Start::default(); 2]).await;
    let (at_first, at_second) = (first.user(&key), second.user(&key));
    let (form, go_on) = halting_form("1.0.0", 1);
    let request = at_first.request(Method::POST, "/adapters/acme/sst2/versions").header("idempotency-key", "k");
    let upload = tokio::spawn(request.multipart(form).send());
    wait_until("the upload has begun", async || num_staged(folder.path()) == 1).await;

    let publish = async || at_second.upload("acme/sst2", "1.0.0", &AdapterFiles::tiny(2)).await.status();
    first.signal("STOP");
    // Stopped in the middle of a transaction it would hold the file's lock, and that is not what is tried here.
    let db = database_of(folder.path()).await;
    let is_locked = async || db.execute_unprepared("DELETE FROM leases WHERE name = 'nothing'").await.is_err();
    while is_locked().await || publish().await == StatusCode::SERVICE_UNAVAILABLE {
        first.signal("CONT");
        tokio::time::sleep(Duration::from_millis(20)).await;
        first.signal("STOP");
    }
    wait_until("the second publishes the number", async || publish().await == StatusCode::CREATED).await;
    first.signal("CONT");
    go_on.send(()).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(20), upload).await.unwrap().unwrap().unwrap();
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "lease_lost").await;
    let weights = "/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors";
    assert_eq!(at_first.get(weights).await.bytes().await.unwrap(), AdapterFiles::tiny(2).weights_bytes());
    assert_eq!(num_objects(folder.path()), 3);
}

#[tokio::test]
async fn on_one_bucket_an_upload_goes_on_when_another_registry_is_killed_and_ends_with_its_own() {
    let server = S3Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    drop(config_in(folder.path()));
    let start = Start { s3_endpoint: Some(server.endpoint()), ..Start::default() };
    let first = Process::start(folder.path(), start).await;
    let second = Process::start(folder.path(), start).await;
    let admin = first.user(&first.key);
    assert_eq!(admin.post("/tenants", json!({ "name": "acme" })).await.status(), StatusCode::CREATED);
    let request = json!({ "name": "test", "scopes": ["adapters:read", "adapters:write"], "tenant": "acme" });
    let made = body(admin.post("/keys", request).await, StatusCode::CREATED).await;
    let at_first = first.user(made["secret"].as_str().unwrap());
    at_first.make_adapter("sst2", "private").await;
    let db = database_of(folder.path()).await;
    let begin = async |number: &str, seed: u8| {
        let (form, go_on) = halting_form(number, seed);
        let request = at_first.request(Method::POST, "/adapters/acme/sst2/versions").multipart(form);
        let upload = tokio::spawn(request.send());
        let running = async || number_of(&db, "SELECT count(*) AS n FROM uploads").await == 1;
        wait_until("the upload has begun", running).await;
        (upload, go_on)
    };

    let (upload, go_on) = begin("1.0.0", 1).await;
    second.signal("KILL");
    assert_eq!(second.ended().await, None);
    go_on.send(()).unwrap();
    body(upload.await.unwrap().unwrap(), StatusCode::CREATED).await;

    let third = Process::start(folder.path(), start).await;
    let (upload, _never) = begin("2.0.0", 2).await;
    first.signal("KILL");
    assert!(upload.await.unwrap().is_err());
    let at_third = third.user(&at_first.key);
    let publish = async || at_third.upload("acme/sst2", "2.0.0", &AdapterFiles::tiny(3)).await.status();
    wait_until("the number is free again", async || publish().await == StatusCode::CREATED).await;
    let weights = "/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors";
    assert_eq!(at_third.get(weights).await.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    check_whole_on(folder.path(), &server).await;
}
