//! Rotation: another key takes a key's place, and for a while both work.

use reqwest::{Method, StatusCode};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::browser::persons_key;
use crate::support::{Stack, User, body, problem};

async fn rotate(user: &User, id: &str, request: Value) -> reqwest::Response {
    user.post(&format!("/keys/{id}/rotate"), request).await
}

async fn service(stack: &Stack) -> (User, User, String) {
    let acme = stack.tenant("acme").await;
    let request = json!({ "name": "ci", "scopes": ["adapters:read"], "models": ["acme/*"] });
    let made = body(acme.post("/keys", request).await, StatusCode::CREATED).await;
    (acme, stack.user(made["secret"].as_str().unwrap()), made["id"].as_str().unwrap().to_owned())
}

fn seconds_from_now(moment: &Value) -> i64 {
    let moment = OffsetDateTime::parse(moment.as_str().unwrap(), &Rfc3339).unwrap();
    moment.unix_timestamp() - OffsetDateTime::from(souk_protocol::wall_clock::now()).unix_timestamp()
}

#[tokio::test]
async fn both_keys_work_until_the_overlap_is_over_and_then_the_new_one_alone() {
    let stack = Stack::start().await;
    let (acme, old, id) = service(&stack).await;
    let rotated = body(rotate(&acme, &id, json!({ "overlap_s": 900 })).await, StatusCode::CREATED).await;
    assert_eq!(rotated["replaces"], json!(id));
    assert!((890..=900).contains(&seconds_from_now(&rotated["old_ends_at"])), "{rotated}");
    assert_eq!((&rotated["scopes"], &rotated["models"]), (&json!(["adapters:read"]), &json!(["acme/*"])));
    assert!(rotated["expires_at"].is_null(), "it lives as long as the old one would have");
    let new = stack.user(rotated["secret"].as_str().unwrap());
    for key in [&old, &new] {
        assert_eq!(key.get("/adapters").await.status(), StatusCode::OK);
    }
    let listed = body(acme.get("/keys").await, StatusCode::OK).await;
    let row = listed["data"].as_array().unwrap().iter().find(|key| key["id"] == id.as_str()).unwrap();
    assert_eq!(row["replaced_by"], rotated["id"]);
    let over = format!("UPDATE api_keys SET expires_at_ms = 1 WHERE id = '{id}'");
    stack.database().await.execute_unprepared(&over).await.unwrap();
    problem(old.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_expired").await;
    assert_eq!(new.get("/adapters").await.status(), StatusCode::OK);
    problem(rotate(&acme, &id, json!({})).await, StatusCode::CONFLICT, "already_rotated").await;
}

#[tokio::test]
async fn without_an_overlap_the_old_key_and_its_tokens_end_at_once() {
    let stack = Stack::start().await;
    let (acme, old, id) = service(&stack).await;
    let token = body(old.post("/auth/token", json!({})).await, StatusCode::OK).await;
    let token = stack.user(token["access_token"].as_str().unwrap());
    let rotated = body(rotate(&acme, &id, json!({ "overlap_s": 0 })).await, StatusCode::CREATED).await;
    for ended in [&old, &token] {
        problem(ended.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    }
    assert_eq!(stack.user(rotated["secret"].as_str().unwrap()).get("/adapters").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn of_two_who_rotate_a_key_at_once_one_does() {
    let stack = Stack::start().await;
    let (acme, _, id) = service(&stack).await;
    let tries = (0..6).map(|_| rotate(&acme, &id, json!({})));
    let answers = futures::future::join_all(tries).await;
    let made = answers.iter().filter(|answer| answer.status() == StatusCode::CREATED).count();
    assert_eq!(made, 1);
    for answer in answers.into_iter().filter(|answer| answer.status() != StatusCode::CREATED) {
        problem(answer, StatusCode::CONFLICT, "already_rotated").await;
    }
    let successors = format!("SELECT count(*) AS n FROM api_keys WHERE name = 'ci' AND id <> '{id}'");
    assert_eq!(stack.number(&successors).await, 1);
}

#[tokio::test]
async fn a_repeated_rotation_answers_as_the_first_and_without_the_secret() {
    let stack = Stack::start().await;
    let (acme, _, id) = service(&stack).await;
    let ask = async || {
        let path = format!("/keys/{id}/rotate");
        let request = acme.request(Method::POST, &path).header("idempotency-key", "k").json(&json!({}));
        body(request.send().await.unwrap(), StatusCode::CREATED).await
    };
    let (first, again) = (ask().await, ask().await);
    assert!(first["secret"].is_string() && again.get("secret").is_none());
    assert_eq!(first["id"], again["id"]);
}

#[tokio::test]
async fn nobody_gets_more_by_rotating() {
    let stack = Stack::start().await;
    let (acme, _, _) = service(&stack).await;
    let rich = stack.key_for("acme", &["adapters:read", "audit:read"]).await;
    let id = stack.principal(&rich).await.key.to_string();
    problem(rotate(&acme, &id, json!({})).await, StatusCode::FORBIDDEN, "scope_not_held").await;
    // Nor more time: the new key ends with the one that it is made with.
    let soon =
        (OffsetDateTime::from(souk_protocol::wall_clock::now()) + time::Duration::hours(1)).format(&Rfc3339).unwrap();
    let request = json!({ "name": "short", "scopes": ["keys:manage", "adapters:read"], "expires_at": soon });
    let made = body(acme.post("/keys", request).await, StatusCode::CREATED).await;
    let short = stack.user(made["secret"].as_str().unwrap());
    let own = made["id"].as_str().unwrap();
    let late = json!({ "expires_at": "2999-01-01T00:00:00Z" });
    problem(rotate(&short, own, late).await, StatusCode::FORBIDDEN, "expiry_not_held").await;
    let rotated = body(rotate(&short, own, json!({ "overlap_s": 900 })).await, StatusCode::CREATED).await;
    assert!((3590..=3600).contains(&seconds_from_now(&rotated["expires_at"])), "{rotated}");
    // A person's key is rotated by that person alone.
    let (theirs, person) = persons_key(&stack, "acme", &["adapters:read"]).await;
    let id = stack.principal(&theirs).await.key.to_string();
    problem(rotate(&acme, &id, json!({})).await, StatusCode::FORBIDDEN, "others_key").await;
    let rotated = body(rotate(&theirs, &id, json!({})).await, StatusCode::CREATED).await;
    assert_eq!((rotated["kind"].as_str(), rotated["person"].as_str()), (Some("personal"), Some(person.as_str())));
}

#[tokio::test]
async fn a_key_that_is_over_or_anothers_and_an_overlap_out_of_bounds_are_refused() {
    let stack = Stack::start_with(|config| config.settings.key_overlap = std::time::Duration::from_secs(3600)).await;
    let (acme, _, id) = service(&stack).await;
    for seconds in [1, 899, 3601] {
        let refused = rotate(&acme, &id, json!({ "overlap_s": seconds })).await;
        let refused = problem(refused, StatusCode::BAD_REQUEST, "invalid_fields").await;
        let message = refused["errors"][0]["message"].as_str().unwrap();
        assert_eq!(message, format!("0, or 900 to 3600 (registry.key_overlap_s); given {seconds}"));
    }
    let rival = stack.tenant("rival").await;
    for unknown in [id.as_str(), "nothing"] {
        problem(rotate(&rival, unknown, json!({})).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    let refused = problem(rotate(&acme, &id, json!({})).await, StatusCode::CONFLICT, "key_over").await;
    assert!(refused["detail"].as_str().unwrap().contains("was revoked"), "{refused}");
}
