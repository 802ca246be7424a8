//! Keys that somebody found are ended by whoever shows them.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use souk_registry::ApiKey;

use crate::support::{Stack, body, problem, wait_until};

async fn report(stack: &Stack, reports: Value) -> reqwest::Response {
    Client::new().post(format!("{}/keys/revoke", stack.base_url)).json(&reports).send().await.unwrap()
}

#[tokio::test]
async fn a_key_that_is_shown_ends_with_what_was_made_with_it_and_its_tenant_is_told_once() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let request = json!({ "name": "k", "scopes": ["inference", "keys:manage"] });
    let made = body(acme.post("/keys", request.clone()).await, StatusCode::CREATED).await;
    let leaked = stack.user(made["secret"].as_str().unwrap());
    let child = body(leaked.post("/keys", request).await, StatusCode::CREATED).await;
    let child = stack.user(child["secret"].as_str().unwrap());
    let id = made["id"].as_str().unwrap();
    // As scanners send it, with fields that are not used here.
    let found = json!([{
        "token": leaked.key, "type": "souk_api_key", "url": "https://example.org/commit/1", "source": "content",
    }]);
    for _ in 0..2 {
        let answer = report(&stack, found.clone()).await;
        assert_eq!(body(answer, StatusCode::ACCEPTED).await, json!({ "status": "accepted" }));
    }
    wait_until("it is revoked", async || leaked.get("/keys").await.status() == StatusCode::UNAUTHORIZED).await;
    for ended in [&leaked, &child] {
        problem(ended.get("/keys").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    }
    let listed = body(acme.get("/keys").await, StatusCode::OK).await;
    let row = listed["data"].as_array().unwrap().iter().find(|key| key["id"] == id).unwrap();
    assert_eq!((row["revoked_for"].as_str(), &row["revoked_by"]), (Some("leaked"), &Value::Null));
    let events = format!("SELECT count(*) AS n FROM outbox WHERE kind = 'key.leaked' AND subject = '{id}'");
    assert_eq!(stack.number(&events).await, 1);
    let with_url = "SELECT count(*) AS n FROM outbox WHERE payload LIKE '%https://example.org/commit/1%'";
    assert_eq!(stack.number(with_url).await, 1);
    let entries = format!("SELECT count(*) AS n FROM audit_entries WHERE action = 'key.leaked' AND subject = '{id}'");
    assert_eq!(stack.number(&entries).await, 1);
    assert_eq!(acme.get("/keys").await.status(), StatusCode::OK, "what made it lives");
}

#[tokio::test]
async fn a_gateways_key_that_is_shown_ends_too() {
    let stack = Stack::start().await;
    let made = stack.admin.post("/services", json!({ "name": "gateway-1" })).await;
    let made = body(made, StatusCode::CREATED).await;
    let service = stack.user(made["secret"].as_str().unwrap());
    assert_eq!(service.post("/internal/token", json!({})).await.status(), StatusCode::OK);
    for _ in 0..2 {
        report(&stack, json!([{ "token": service.key }])).await;
    }
    wait_until("it is revoked", async || {
        service.post("/internal/token", json!({})).await.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    assert_eq!(stack.num_audited("service.revoked", made["id"].as_str().unwrap(), "leaked").await, 1);
}

#[tokio::test]
async fn one_key_that_is_shown_a_hundred_times_is_ended_once() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let made = acme.post("/keys", json!({ "name": "k", "scopes": ["inference"] })).await;
    let key = body(made, StatusCode::CREATED).await["secret"].as_str().unwrap().to_owned();
    let many: Vec<_> = (0..100).map(|_| json!({ "token": key })).collect();
    report(&stack, json!(many)).await;
    wait_until("it is revoked", async || stack.user(&key).get("/keys").await.status() == StatusCode::UNAUTHORIZED)
        .await;
    assert_eq!(report(&stack, json!(many)).await.status(), StatusCode::ACCEPTED);
    let entries = "SELECT count(*) AS n FROM audit_entries WHERE action = 'key.leaked'";
    assert_eq!(stack.number(entries).await, 1);
}

#[tokio::test]
async fn what_is_no_key_answers_the_same_and_changes_nothing() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let id = &acme.key[..18];
    let forged = crate::keys::with_checksum(&format!("{id}{}", "x".repeat(40)));
    let cut = &acme.key[..acme.key.len() - 1];
    let unknown = ApiKey::generate().expose().to_owned();
    for tokens in [vec![""], vec!["garbage"], vec![cut], vec![&forged], vec![&unknown], vec![&forged, cut, "x"]] {
        let reports: Vec<_> = tokens.iter().map(|token| json!({ "token": token })).collect();
        let answer = report(&stack, json!(reports)).await;
        assert_eq!(body(answer, StatusCode::ACCEPTED).await, json!({ "status": "accepted" }), "{tokens:?}");
    }
    assert_eq!(acme.get("/keys").await.status(), StatusCode::OK);
    assert_eq!(stack.number("SELECT count(*) AS n FROM api_keys WHERE revoked_at_ms IS NOT NULL").await, 0);
    assert_eq!(stack.number("SELECT count(*) AS n FROM outbox WHERE kind LIKE 'key.%'").await, 0);
}

#[tokio::test]
async fn reports_come_in_bounded_batches() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    for number in [0, 101] {
        let reports: Vec<_> = (0..number).map(|_| json!({ "token": "x" })).collect();
        let refused = problem(report(&stack, json!(reports)).await, StatusCode::BAD_REQUEST, "invalid_body").await;
        assert_eq!(refused["detail"], format!("1 to 100 reports in one request, given {number}"));
    }
    problem(report(&stack, json!({ "token": "x" })).await, StatusCode::BAD_REQUEST, "invalid_body").await;
    let mut reports: Vec<_> = (0..99).map(|_| json!({ "token": ApiKey::generate().expose() })).collect();
    reports.push(json!({ "token": acme.key, "url": "javascript:alert(1)" }));
    assert_eq!(report(&stack, json!(reports)).await.status(), StatusCode::ACCEPTED);
    wait_until("the last of a hundred is found", async || acme.get("/keys").await.status() == StatusCode::UNAUTHORIZED)
        .await;
    assert_eq!(stack.number("SELECT count(*) AS n FROM outbox WHERE payload LIKE '%javascript%'").await, 0);
}

#[tokio::test]
async fn one_address_has_two_requests_with_reports_under_way_and_no_more() {
    let stack = Stack::start().await;
    // Two whose bodies do not end.
    let url = format!("{}/keys/revoke", stack.base_url);
    let endless = || {
        let body = reqwest::Body::wrap_stream(futures::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let request = Client::new().post(&url).header("content-type", "application/json").body(body);
        tokio::spawn(request.send())
    };
    let held = [endless(), endless()];
    let one = json!([{ "token": "x" }]);
    wait_until("no third is let in", async || {
        report(&stack, one.clone()).await.status() == StatusCode::TOO_MANY_REQUESTS
    })
    .await;
    problem(report(&stack, one.clone()).await, StatusCode::TOO_MANY_REQUESTS, "share_taken").await;
    held.iter().for_each(tokio::task::JoinHandle::abort);
    wait_until("their places are given back", async || {
        report(&stack, one.clone()).await.status() == StatusCode::ACCEPTED
    })
    .await;
}
