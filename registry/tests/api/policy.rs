//! What a tenant says of its keys.

use reqwest::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{Stack, User, body, problem};

async fn manager(stack: &Stack) -> User {
    stack.tenant("acme").await;
    stack.key_for("acme", &["inference", "adapters:read", "keys:manage", "tenant:manage"]).await
}

async fn set(user: &User, policy: Value) -> Value {
    body(user.put("/policy", policy).await, StatusCode::OK).await
}

fn days_from_now(moment: &Value) -> i64 {
    let moment = OffsetDateTime::parse(moment.as_str().unwrap(), &Rfc3339).unwrap();
    let seconds = (moment - OffsetDateTime::from(souk_protocol::wall_clock::now())).as_seconds_f64();
    (seconds / 86400.0).round() as i64
}

#[tokio::test]
async fn a_tenant_without_a_policy_bounds_nothing() {
    let stack = Stack::start().await;
    let acme = manager(&stack).await;
    let policy = body(acme.get("/policy").await, StatusCode::OK).await;
    let none = json!({ "max_key_days": null, "scopes": null, "personal_keys": true, "updated_at": null });
    assert_eq!(policy, none);
    let made = acme.post("/keys", json!({ "name": "k", "scopes": ["inference"] })).await;
    assert!(body(made, StatusCode::CREATED).await["expires_at"].is_null());
}

#[tokio::test]
async fn every_new_key_is_within_the_policy() {
    let stack = Stack::start().await;
    let acme = manager(&stack).await;
    set(&acme, json!({ "max_key_days": 30, "scopes": ["inference", "keys:manage"] })).await;
    let make = async |user: &User, request: Value| user.post("/keys", request).await;
    // Without a moment of its own a key has the last that is allowed.
    let made = make(&acme, json!({ "name": "k", "scopes": ["inference"] })).await;
    let made = body(made, StatusCode::CREATED).await;
    assert_eq!(days_from_now(&made["expires_at"]), 30);
    let late = json!({ "name": "k", "scopes": ["inference"], "expires_at": "2999-01-01T00:00:00Z" });
    let refused = problem(make(&acme, late).await, StatusCode::FORBIDDEN, "against_policy").await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("`expires_at`") && detail.contains("2999"), "{detail}");
    let more = json!({ "name": "k", "scopes": ["inference", "adapters:read"] });
    let refused = problem(make(&acme, more.clone()).await, StatusCode::FORBIDDEN, "against_policy").await;
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("some of inference keys:manage") && detail.contains("given adapters:read"), "{detail}");
    // The operator's hand is bound too, except for keys of operators.
    let for_acme = json!({ "name": "k", "scopes": ["adapters:read"], "tenant": "acme" });
    problem(make(&stack.admin, for_acme).await, StatusCode::FORBIDDEN, "against_policy").await;
    let admin = make(&stack.admin, json!({ "name": "k", "scopes": ["admin"], "tenant": "acme" })).await;
    assert!(body(admin, StatusCode::CREATED).await["expires_at"].is_null());
}

#[tokio::test]
async fn keys_that_break_a_new_policy_are_listed_and_end_with_it_if_it_says_so() {
    let stack = Stack::start().await;
    let acme = manager(&stack).await;
    let reader = stack.key_for("acme", &["adapters:read"]).await;
    let caller = stack.key_for("acme", &["inference"]).await;
    let policy = json!({ "scopes": ["inference", "adapters:read", "keys:manage", "tenant:manage"] });
    let set_now = set(&acme, policy).await;
    // The first key of the tenant may write adapters.
    assert_eq!((set_now["num_breaking"].as_i64(), set_now["ended"].as_bool()), (Some(1), Some(false)));
    assert_eq!(set_now["breaking"][0]["breaks"], json!(["scopes"]));
    assert_eq!(caller.get("/adapters").await.status(), StatusCode::FORBIDDEN, "it lives");
    let policy = json!({ "max_key_days": 10, "end_breaking": true });
    // All live for ever, the caller's own among them.
    problem(acme.put("/policy", policy.clone()).await, StatusCode::CONFLICT, "own_key_against_policy").await;
    let before = body(acme.get("/policy").await, StatusCode::OK).await;
    assert!(before["max_key_days"].is_null(), "nothing was changed");
    let ended = body(stack.admin.put("/policy?tenant=acme", policy).await, StatusCode::OK).await;
    assert_eq!((ended["num_breaking"].as_i64(), ended["ended"].as_bool()), (Some(4), Some(true)));
    for key in [&acme, &reader, &caller] {
        problem(key.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    }
    let listed = body(stack.admin.get("/keys?tenant=acme").await, StatusCode::OK).await;
    let keys = listed["data"].as_array().unwrap();
    assert!(keys.iter().all(|key| key["revoked_for"] == "policy"), "{listed}");
    assert_eq!(stack.number("SELECT count(*) AS n FROM api_keys").await, 5, "no row is removed");
}

#[tokio::test]
async fn a_policy_takes_the_right_to_manage_the_tenant_and_sound_values() {
    let stack = Stack::start().await;
    let acme = manager(&stack).await;
    let keys_alone = stack.key_for("acme", &["keys:manage"]).await;
    problem(keys_alone.get("/policy").await, StatusCode::FORBIDDEN, "scope_missing").await;
    problem(keys_alone.put("/policy", json!({})).await, StatusCode::FORBIDDEN, "scope_missing").await;
    stack.tenant("rival").await;
    problem(acme.get("/policy?tenant=rival").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let bad = json!({ "max_key_days": 0, "scopes": ["root"] });
    let answer = problem(acme.put("/policy", bad).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
    let subjects: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| &error["subject"]).collect();
    assert_eq!(subjects, ["max_key_days", "scopes[0]"]);
}
