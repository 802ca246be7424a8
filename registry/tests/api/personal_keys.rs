//! Keys of persons and of services: who makes, sees and ends which, and which models they may call.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::browser::{key_of, persons_key};
use crate::support::{Stack, User, body, problem};

async fn make(user: &User, request: Value) -> Value {
    body(user.post("/keys", request).await, StatusCode::CREATED).await
}

async fn ids(user: &User) -> Vec<String> {
    let listed = body(user.get("/keys").await, StatusCode::OK).await;
    listed["data"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_person_makes_sees_and_ends_its_own_keys_without_managing_those_of_the_tenant() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let (ada, person) = persons_key(&stack, "acme", &["inference", "adapters:read"]).await;
    let made = make(&ada, json!({ "name": "laptop", "scopes": ["inference"] })).await;
    assert_eq!((made["kind"].as_str(), made["person"].as_str()), (Some("personal"), Some(person.as_str())));
    let laptop = stack.user(made["secret"].as_str().unwrap());
    let principal = stack.principal(&laptop).await;
    assert_eq!((principal.person, principal.scopes.len()), (Some(person.clone()), 1));
    // Nobody else's are there for it.
    let (bob, _) = persons_key(&stack, "acme", &["inference"]).await;
    assert_eq!(ids(&bob).await, [stack.principal(&bob).await.key.to_string()]);
    assert_eq!(ids(&ada).await.len(), 2);
    let others = [&acme, &bob];
    for other in others {
        let id = stack.principal(other).await.key;
        problem(ada.delete(&format!("/keys/{id}")).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    assert_eq!(ids(&acme).await.len(), 4, "who manages the tenant's keys sees all");
    // A service's key outlives a person, so it takes the right to manage keys.
    let service = json!({ "name": "ci", "kind": "service", "scopes": ["inference"] });
    problem(ada.post("/keys", service.clone()).await, StatusCode::FORBIDDEN, "scope_missing").await;
    let more = json!({ "name": "up", "scopes": ["adapters:write"] });
    problem(ada.post("/keys", more).await, StatusCode::FORBIDDEN, "scope_not_held").await;
    // And a service is no person.
    let personal = json!({ "name": "x", "kind": "personal", "scopes": ["inference"] });
    problem(acme.post("/keys", personal).await, StatusCode::FORBIDDEN, "person_needed").await;
    assert_eq!(make(&acme, service).await["kind"], "service");
    let id = made["id"].as_str().unwrap();
    assert_eq!(ada.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    problem(laptop.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
}

#[tokio::test]
async fn who_may_manage_keys_ends_every_persons_and_a_persons_own_end_leaves_services() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let (owner, person) = persons_key(&stack, "acme", &["inference", "keys:manage"]).await;
    let service = make(&owner, json!({ "name": "ci", "kind": "service", "scopes": ["inference"] })).await;
    let personal = make(&owner, json!({ "name": "laptop", "scopes": ["inference"] })).await;
    let service = stack.user(service["secret"].as_str().unwrap());
    let personal = stack.user(personal["secret"].as_str().unwrap());
    // The same person with less, as after another role: what it made for a service stays.
    let less = key_of(&stack, "acme", &["inference"], &person).await;
    let id = stack.principal(&owner).await.key;
    assert_eq!(less.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    for ended in [&owner, &personal] {
        problem(ended.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    }
    problem(service.get("/adapters").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let id = stack.principal(&less).await.key;
    assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    problem(less.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
}

#[tokio::test]
async fn an_answer_that_was_kept_for_a_person_is_repeated_to_no_other() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let (ada, _) = persons_key(&stack, "acme", &["inference"]).await;
    let (bob, _) = persons_key(&stack, "acme", &["inference"]).await;
    let ask = async |user: &User| {
        let request = json!({ "name": "laptop", "scopes": ["inference"] });
        let sent = user.request(reqwest::Method::POST, "/keys").header("idempotency-key", "k").json(&request);
        body(sent.send().await.unwrap(), StatusCode::CREATED).await
    };
    let (first, again, others) = (ask(&ada).await, ask(&ada).await, ask(&bob).await);
    assert_eq!(first["id"], again["id"]);
    assert_ne!(first["id"], others["id"]);
}

#[tokio::test]
async fn a_key_with_a_list_of_models_makes_none_that_may_call_more_and_its_tokens_carry_the_list() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let models = json!(["acme/sst2", "rival/*", "tiny-base"]);
    let request = json!({ "name": "k", "scopes": ["inference", "keys:manage"], "models": models });
    let made = make(&acme, request).await;
    assert_eq!(made["models"], models);
    let listed = stack.user(made["secret"].as_str().unwrap());
    let principal = stack.principal(&listed).await;
    let allowed = principal.models.expect("a list");
    assert!(allowed.allow_base("tiny-base") && !allowed.allow_base("another"));
    for (asked, answer) in [
        (json!(["acme/sst2@1.0.0", "rival/x"]), None),
        (Value::Null, None),
        (json!(["acme/*"]), Some("model_not_held")),
    ] {
        let request = json!({ "name": "child", "scopes": ["inference"], "models": asked });
        let made = listed.post("/keys", request).await;
        match answer {
            Some(code) => _ = problem(made, StatusCode::FORBIDDEN, code).await,
            None => {
                let made = body(made, StatusCode::CREATED).await;
                assert_eq!(made["models"], if asked.is_null() { models.clone() } else { asked });
            }
        }
    }
    let token = body(listed.post("/auth/token", json!({})).await, StatusCode::OK).await;
    let by_token = stack.user(token["access_token"].as_str().unwrap());
    assert_eq!(stack.principal(&by_token).await.models, Some(allowed));
}

#[tokio::test]
async fn wrong_patterns_of_models_are_named_with_the_limits() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let ask = async |models: Value| {
        let request = json!({ "name": "k", "scopes": ["inference"], "models": models });
        let answer = problem(acme.post("/keys", request).await, StatusCode::BAD_REQUEST, "invalid_fields").await;
        let errors = answer["errors"].as_array().unwrap();
        let lines = errors.iter().map(|error| format!("{}: {}", error["subject"], error["message"]));
        lines.collect::<Vec<_>>().join("; ")
    };
    let wrong = ask(json!(["acme/sst2", "*", "Acme/x", "acme/x@latest"])).await;
    assert!(wrong.contains("models[1]") && wrong.contains("models[2]") && wrong.contains("models[3]"), "{wrong}");
    assert!(ask(json!([])).await.contains("1 to 32 patterns, or no such field for all models; given 0"));
    let many: Vec<_> = (0..33).map(|number| format!("acme/a{number}")).collect();
    assert!(ask(json!(many)).await.contains("1 to 32 patterns"), "33");
    let long: Vec<_> = (0..20).map(|number| format!("acme/{}{number:02}", "a".repeat(50))).collect();
    let given = long.iter().map(String::len).sum::<usize>() + long.len() - 1;
    let wrong = ask(json!(long)).await;
    assert!(wrong.contains("at most 1000 characters") && wrong.contains(&format!("given {given}")), "{wrong}");
}
