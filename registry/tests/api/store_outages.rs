//! An object store that goes away and comes back while a registry runs on it.

use reqwest::StatusCode;
use serde_json::json;
use souk_testkit_s3::S3Server;

use crate::support::{AdapterFiles, Stack, User, in_haste, problem, s3_at, wait_until};

const WEIGHTS: &str = "/adapters/acme/sst2/versions/1.0.0/files/adapter_model.safetensors";

/// What needs the store says so, and the rest goes on.
async fn check_it_is_away(acme: &User) {
    for _ in 0..2 {
        let answer = acme.upload("acme/sst2", "2.0.0", &AdapterFiles::tiny(2)).await;
        assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        problem(answer, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").await;
    }
    problem(acme.get(WEIGHTS).await, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").await;
    assert_eq!(acme.get("/adapters/acme/sst2/versions/1.0.0").await.status(), StatusCode::OK);
    acme.make_adapter("more", "private").await;
    let tag = acme.put("/adapters/acme/sst2/tags/prod", json!({ "version": "1.0.0" })).await;
    assert_eq!(tag.status(), StatusCode::OK);
}

/// Without a restart everything works, and what could not be done meanwhile is done.
async fn check_it_is_back(acme: &User, num_blobs: impl Fn() -> usize) {
    assert_eq!(acme.get(WEIGHTS).await.bytes().await.unwrap(), AdapterFiles::tiny(1).weights_bytes());
    acme.publish("acme/sst2", "2.0.0", 2).await;
    // Weights and manifest of each version, and the configuration that all have.
    wait_until("the bytes of what was deleted are gone", async || num_blobs() == 5).await;
}

#[tokio::test]
async fn while_the_bucket_is_away_calls_that_need_it_answer_503_and_after_it_is_back_they_go_on() {
    let mut server = S3Server::start().await;
    let stack = Stack::start_with(|config| {
        in_haste(config);
        config.objects = s3_at(server.endpoint());
    })
    .await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    acme.publish("acme/sst2", "0.1.0", 9).await;

    server.stop();
    check_it_is_away(&acme).await;
    let deleted = acme.delete("/adapters/acme/sst2/versions/0.1.0").await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT, "the bytes may go later");

    server.start_again().await;
    check_it_is_back(&acme, || server.names("of/tests/sha256/").len()).await;
    wait_until("nothing is staged", async || {
        server.names("of/tests/staging/").is_empty() && server.num_running_uploads() == 0
    })
    .await;
}

#[tokio::test]
async fn a_bucket_that_fails_is_away_too() {
    let server = S3Server::start().await;
    let stack = Stack::start_with(|config| config.objects = s3_at(server.endpoint())).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    server.fail("PUT", "sha256", 3, souk_testkit_s3::Fault::Refuse(503, "SlowDown"));
    let answer = acme.upload("acme/sst2", "1.0.0", &AdapterFiles::tiny(1)).await;
    problem(answer, StatusCode::SERVICE_UNAVAILABLE, "store_unavailable").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
}

#[tokio::test]
async fn while_the_disk_of_objects_is_away_calls_that_need_it_answer_503_and_after_it_is_back_they_go_on() {
    let stack = Stack::start_with(in_haste).await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme.publish("acme/sst2", "1.0.0", 1).await;
    acme.publish("acme/sst2", "0.1.0", 9).await;

    let (objects, elsewhere) = (stack.folder.path().join("objects"), stack.folder.path().join("elsewhere"));
    std::fs::rename(&objects, &elsewhere).unwrap();
    // What is left where a disk was mounted.
    std::fs::create_dir(&objects).unwrap();
    check_it_is_away(&acme).await;
    let deleted = acme.delete("/adapters/acme/sst2/versions/0.1.0").await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT, "the bytes may go later");

    std::fs::remove_dir(&objects).unwrap();
    std::fs::rename(&elsewhere, &objects).unwrap();
    check_it_is_back(&acme, || stack.num_objects()).await;
}
