//! `souk keys` and `souk access` against a running server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use reqwest::{Client, Method};
use serde_json::Value;
use stack::Stack;

/// A command as whoever has the key gives it; what it prints.
fn souk(stack: &Stack, key: &str, command: &str) -> String {
    let arguments: Vec<&str> = command.split(' ').chain(["--api-key", key]).collect();
    stack.souk(&arguments)
}

fn json(stack: &Stack, key: &str, command: &str) -> Value {
    serde_json::from_str(&souk(stack, key, &format!("{command} --json"))).unwrap()
}

/// A new tenant's key with these scopes.
fn tenant(stack: &Stack, name: &str, scopes: &str) -> String {
    stack.souk(&["tenants", "create", name]);
    souk(stack, &stack.admin_key, &format!("keys create first --tenant {name}{scopes}")).trim().to_owned()
}

/// What has no command.
async fn send(stack: &Stack, key: &str, method: Method, path: &str, body: &Value) {
    let request = Client::new().request(method, format!("{}/registry/v1/{path}", stack.url)).bearer_auth(key);
    let answer = request.json(body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

const ALL: &str = " --scope inference --scope adapters:read --scope adapters:write --scope keys:manage \
                   --scope access:decide --scope tenant:manage";

#[test]
fn keys_are_made_listed_rotated_bounded_and_revoked_from_the_command_line() {
    let stack = Stack::start();
    let acme = tenant(&stack, "acme", ALL);
    let made = json(&stack, &acme, "keys create ci --scope inference --model acme/* --expires-at 2999-01-01T00:00:00Z");
    let id = made["id"].as_str().unwrap();
    assert_eq!((made["kind"].as_str(), &made["models"]), (Some("service"), &serde_json::json!(["acme/*"])));
    let table = souk(&stack, &acme, "keys list");
    let row = table.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(table.starts_with("ID") && row.contains("acme/*") && row.ends_with("active"), "{table}");
    let rotated = json(&stack, &acme, &format!("keys rotate {id} --overlap-s 900"));
    assert_eq!(rotated["replaces"], id);
    assert!(souk(&stack, &acme, "keys list").contains("replaced"));
    let set = json(&stack, &acme, "keys policy --set --max-days 30 --no-personal");
    assert_eq!((&set["max_key_days"], &set["personal_keys"]), (&Value::from(30), &Value::from(false)));
    assert!(set["num_breaking"].as_u64() >= Some(2), "{set}");
    let shown = souk(&stack, &acme, "keys policy");
    assert!(shown.contains("longest life in days  30") && shown.contains("not allowed"), "{shown}");
    let refused = stack.souk_output(&["keys", "rotate", id, "--api-key", &acme]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("was rotated already"), "{refused:?}");
    assert_eq!(json(&stack, &acme, &format!("keys revoke {id}")), serde_json::json!({ "revoked": id }));
    let listed = json(&stack, &acme, "keys list");
    let revoked = listed.as_array().unwrap().iter().find(|key| key["id"] == id).unwrap();
    assert!(revoked["revoked_at"].is_string());
}

#[test]
fn keys_of_gateways_are_made_listed_and_revoked_from_the_command_line() {
    let stack = Stack::start();
    let made = json(&stack, &stack.admin_key, "services create gateway-1");
    let id = made["id"].as_str().unwrap();
    assert!(made["secret"].is_string() && made["name"] == "gateway-1", "{made}");
    let secret = souk(&stack, &stack.admin_key, "services create gateway-1");
    assert_eq!(secret.trim().len(), made["secret"].as_str().unwrap().len());
    let revoked = json(&stack, &stack.admin_key, &format!("services revoke {id}"));
    assert_eq!(revoked, serde_json::json!({ "revoked": id }));
    let table = souk(&stack, &stack.admin_key, "services list");
    assert!(table.lines().any(|line| line.starts_with(id) && line.ends_with("revoked")), "{table}");
}

#[tokio::test]
async fn access_is_asked_for_decided_and_shared_from_the_command_line() {
    let stack = Stack::start();
    let (acme, asker) = (tenant(&stack, "acme", ALL), tenant(&stack, "asker", ""));
    for (name, visibility) in [("gated", "gated"), ("shared", "shared")] {
        let body = serde_json::json!({ "name": name, "visibility": visibility });
        send(&stack, &acme, Method::POST, "adapters", &body).await;
    }
    let questions = serde_json::json!({ "questions": [
        { "name": "purpose", "label": "What for?", "kind": "text", "required": true },
        { "name": "terms", "label": "Do you agree?", "kind": "checkbox", "required": true },
    ] });
    send(&stack, &acme, Method::PUT, "adapters/acme/gated/gate", &questions).await;
    assert!(souk(&stack, &asker, "access form acme/gated").contains("What for?"));
    let made = json(&stack, &asker, "access request acme/gated --answer purpose=tickets --answer terms=yes");
    let id = made[0]["id"].as_str().unwrap();
    let waiting = souk(&stack, &acme, "access list --received --state pending --adapter acme/gated");
    assert!(waiting.contains(id) && waiting.contains("asker"), "{waiting}");
    // The key of a service does not decide; the operator may.
    let refused = stack.souk_output(&["access", "approve", id, "--api-key", &acme]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this is done by a person"), "{refused:?}");
    let approved = json(&stack, &stack.admin_key, &format!("access approve {id} --reason welcome"));
    assert_eq!(approved[0]["state"], "approved");
    assert!(souk(&stack, &asker, "access list").contains("welcome"));
    let withdrawn = json(&stack, &asker, &format!("access withdraw {id}"));
    assert_eq!(withdrawn[0]["state"], "withdrawn");
    let granted = json(&stack, &acme, "access share acme/shared asker --note partner");
    assert_eq!(granted[0]["tenant"], "asker");
    assert!(souk(&stack, &acme, "access shares acme/shared").contains("partner"));
    let withdrawn = json(&stack, &acme, "access unshare acme/shared asker");
    assert_eq!(withdrawn, serde_json::json!({ "adapter": "acme/shared", "withdrawn": "asker" }));
    assert!(!souk(&stack, &acme, "access shares acme/shared").contains("partner"));
}
