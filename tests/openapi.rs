//! The OpenAPI documents: what they say is valid, can be worked with, and is what the server does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use serde_json::{Value, json};
use souk_protocol::Scope;
use stack::Stack;

#[test]
fn both_documents_are_valid_and_their_examples_have_the_shapes_that_they_show() {
    stack::python("documents.py", &[]);
}

#[test]
fn a_client_that_is_generated_from_the_document_publishes_lists_tags_and_yanks() {
    Stack::start().python("generated.py");
}

#[test]
fn commands_that_list_print_a_table_or_what_the_api_answers() {
    let stack = Stack::start();
    for number in 0..25 {
        stack.souk(&["tenants", "create", &format!("t{number:02}")]);
    }
    let made: Value = serde_json::from_str(&stack.souk(&["tenants", "create", "zeta", "--json"])).unwrap();
    let listed: Vec<Value> = serde_json::from_str(&stack.souk(&["tenants", "list", "--json"])).unwrap();
    assert_eq!(listed.len(), 27, "the operator's own, and all pages");
    assert_eq!(listed.last(), Some(&made));
    let table = stack.souk(&["tenants", "list"]);
    assert!(table.starts_with("NAME") && table.lines().count() == 28, "{table}");
    let id = made["id"].as_str().unwrap();
    assert!(table.lines().last().unwrap().starts_with("zeta") && table.contains(id), "{table}");
    let keys: Vec<Value> = serde_json::from_str(&stack.souk(&["keys", "list", "--json"])).unwrap();
    assert_eq!(keys[0]["name"], "first admin key");
    let models: Vec<Value> = serde_json::from_str(&stack.souk(&["list", "--json"])).unwrap();
    assert_eq!(models[0]["id"], stack::BASE);
    let known: Vec<Value> = serde_json::from_str(&stack.souk(&["models", "list", "--json"])).unwrap();
    assert!(known.iter().any(|model| model["id"] == stack::BASE && model["is_cached"] == true), "{known:?}");
}

/// A tenant's key with all scopes but `admin`.
async fn tenant_key(stack: &Stack) -> String {
    assert_eq!(stack.post("/registry/v1/tenants", &json!({ "name": "acme" })).await.0, 201);
    let scopes: Vec<_> = Scope::ALL.into_iter().filter(|scope| *scope != Scope::Admin).map(Scope::as_str).collect();
    let request = json!({ "name": "test", "scopes": scopes, "tenant": "acme" });
    let (status, made) = stack.post("/registry/v1/keys", &request).await;
    assert_eq!(status, 201, "{made}");
    made["secret"].as_str().unwrap().to_owned()
}

/// The cookie and the token of an owner of a tenant, who has come in by an invitation.
async fn session(stack: &Stack) -> (String, String) {
    let asked = json!({ "email": "owner@example.com", "role": "owner", "tenant": "unexampled" });
    let (status, made) = stack.post("/registry/v1/invitations", &asked).await;
    assert_eq!(status, 201, "{made}");
    let secret = made["link"].as_str().unwrap().rsplit('/').next().unwrap();
    let client = reqwest::Client::new();
    let join = client.post(format!("{}/sign-in/invitation", stack.url)).header("origin", &stack.url);
    let join = join.header("content-type", "application/x-www-form-urlencoded").body(format!("secret={secret}"));
    let joined = join.send().await.unwrap();
    assert_eq!(joined.status(), 200);
    let cookie = joined.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let who = client.get(format!("{}/registry/v1/auth/session", stack.url)).header("cookie", &cookie);
    let who: Value = who.send().await.unwrap().json().await.unwrap();
    (cookie, who["csrf_token"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_nobody_thought_of_get_answers_that_the_documents_name() {
    let stack = Stack::start_with(&[("SOUK_REGISTRY__SELF_SERVICE", "true")]);
    let key = tenant_key(&stack).await;
    // No example names it.
    assert_eq!(stack.post("/registry/v1/tenants", &json!({ "name": "unexampled" })).await.0, 201);
    let sessions = json!([session(&stack).await, session(&stack).await, session(&stack).await]).to_string();
    stack.push_examples();
    stack.python_with("hypotheses.py", &[("SOUK_TENANT_KEY", &*key), ("SOUK_SESSIONS", &*sessions)]);
}

#[tokio::test]
async fn the_gateway_takes_every_request_that_its_document_shows() {
    let stack = Stack::start();
    let text = std::fs::read_to_string(stack::repository().join("openapi/gateway.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut num_shown = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (_, operation) in operations.as_object().unwrap() {
            let mut request = operation["requestBody"]["content"]["application/json"]["example"].clone();
            if request.is_null() {
                continue;
            }
            request["model"] = json!(stack::BASE);
            let (status, answer) = stack.post(path, &request).await;
            assert_eq!(status, 200, "{path}: {answer}");
            num_shown += 1;
        }
    }
    assert_eq!(num_shown, 4);
}
