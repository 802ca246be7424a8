use reqwest::multipart::Form;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::{AdapterFiles, Stack, User, body, problem};

async fn post(user: &User, path: &str, key: &str, request: Value) -> Response {
    user.request(Method::POST, path).header("idempotency-key", key).json(&request).send().await.unwrap()
}

#[tokio::test]
async fn a_repeated_call_makes_one_adapter_and_hears_the_same_answer() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let request = json!({ "name": "sst2" });
    let first = post(&acme, "/adapters", "k1", request.clone()).await;
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let first = body(first, StatusCode::CREATED).await;
    // In quotes or bare, as the draft has it and as clients send it.
    let second = post(&acme, "/adapters", "\"k1\"", request.clone()).await;
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!(body(second, StatusCode::CREATED).await, first);
    let other = post(&acme, "/adapters", "k1", json!({ "name": "other" })).await;
    problem(other, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch").await;
    problem(post(&acme, "/adapters", "k2", request.clone()).await, StatusCode::CONFLICT, "already_exists").await;
    problem(
        post(&acme, "/adapters", &"k".repeat(256), request.clone()).await,
        StatusCode::BAD_REQUEST,
        "invalid_idempotency_key",
    )
    .await;
    // The same key of another tenant is another key.
    let rival = stack.tenant("rival").await;
    assert_eq!(body(post(&rival, "/adapters", "k1", request).await, StatusCode::CREATED).await["owner"], "rival");
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    problem(post(&acme, "/adapters", "k", json!({ "name": "A" })).await, StatusCode::BAD_REQUEST, "invalid_fields")
        .await;
    // The key is set free in the background, a moment after the answer.
    let made = loop {
        let answer = post(&acme, "/adapters", "k", json!({ "name": "a" })).await;
        if answer.status() != StatusCode::CONFLICT {
            break answer;
        }
    };
    assert_eq!(made.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn of_calls_at_the_same_time_one_runs_and_the_others_wait_or_hear_its_answer() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let calls = (0..8).map(|_| post(&acme, "/keys", "k", json!({ "name": "ci", "scopes": ["inference"] })));
    for answer in futures::future::join_all(calls).await {
        match answer.status() {
            StatusCode::CREATED => {}
            _ => _ = problem(answer, StatusCode::CONFLICT, "idempotency_in_flight").await,
        }
    }
    let keys = body(acme.get("/keys").await, StatusCode::OK).await;
    let made = keys["data"].as_array().unwrap().iter().filter(|key| key["name"] == "ci").count();
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_secret_is_shown_once_also_to_a_repeated_call() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let request = json!({ "name": "ci", "scopes": ["inference"] });
    let first = body(post(&acme, "/keys", "k", request.clone()).await, StatusCode::CREATED).await;
    let second = body(post(&acme, "/keys", "k", request).await, StatusCode::CREATED).await;
    assert!(first["secret"].is_string() && second.get("secret").is_none(), "{second}");
    assert_eq!(first["id"], second["id"]);
}

#[tokio::test]
async fn a_repeated_upload_is_compared_by_content_however_it_is_cut_into_parts() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    let send = async |form: Form| {
        let request = acme.request(Method::POST, "/adapters/acme/sst2/versions").header("idempotency-key", "k");
        request.multipart(form).send().await.unwrap()
    };
    let first = body(send(AdapterFiles::tiny(1).form("1.0.0")).await, StatusCode::CREATED).await;
    let second = send(AdapterFiles::tiny(1).form("1.0.0")).await;
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!(body(second, StatusCode::CREATED).await, first);
    problem(send(AdapterFiles::tiny(2).form("1.0.0")).await, StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch")
        .await;
    assert_eq!(stack.num_objects(), 3);
}
