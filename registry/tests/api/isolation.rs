//! What is another tenant's and private cannot be told from what does not exist, on any route of the document.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{AdapterFiles, Stack, User, announcement, body};

/// A route of the document with its parameters filled in.
struct Route {
    method: Method,
    path: String,
}

/// Every operation whose path names an adapter.
fn adapter_routes(owner_and_name: &str) -> Vec<Route> {
    let document = serde_json::to_value(souk_registry::openapi()).unwrap();
    let (owner, name) = owner_and_name.split_once('/').unwrap();
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        if !path.contains("{owner}/{name}") {
            continue;
        }
        let filled = path.replace("{owner}", owner).replace("{name}", name).replace("{version}", "1.0.0");
        let filled = filled.replace("{tag}", "prod").replace("{file}", "manifest.json").replace("{upload}", "upl_0");
        let filled = filled.replace("{tenant}", "friend");
        assert!(!filled.contains('{'), "{filled} has a parameter that this test does not know");
        let filled = filled.strip_prefix("/registry/v1").unwrap();
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let method = method.to_uppercase().parse().unwrap();
            routes.push(Route { method, path: filled.to_owned() });
        }
    }
    routes
}

/// A well-formed request to the route; what it answers, without what differs from request to request.
async fn call(user: &User, route: &Route, owner_and_name: &str) -> (StatusCode, String) {
    let request = user.request(route.method.clone(), &route.path);
    let request = match (&route.method, route.path.rsplit('/').next().unwrap()) {
        (&Method::POST, "versions") => request.multipart(AdapterFiles::tiny(9).form("1.0.0")),
        (&Method::POST, "uploads") => request.json(&announcement("2.0.0", b"weights")),
        (&Method::POST, "parts") => request.json(&json!({ "parts": [] })),
        (&Method::POST, "complete") => request.multipart(AdapterFiles::tiny(9).form("1.0.0")),
        (&Method::POST, "access-requests") | (&Method::PUT, "friend") => request.json(&json!({})),
        (&Method::PUT, "gate") => request.json(&json!({ "questions": [] })),
        (&Method::POST, "take-down") => request.json(&json!({ "reason": "a reason" })),
        (&Method::PUT, "pipeline") => request.json(&json!({ "steps": [] })),
        (&Method::POST, "roll-back") => request.json(&json!({ "number": 1 })),
        (&Method::PATCH, _) => request.json(&json!({ "description": "mine" })),
        (&Method::PUT, _) => request.json(&json!({ "version": "1.0.0" })),
        _ => request,
    };
    let answer = request.send().await.unwrap();
    let status = answer.status();
    (status, answer.text().await.unwrap().replace(owner_and_name, "owner/name"))
}

#[tokio::test]
async fn another_tenants_private_adapter_does_not_exist_on_any_route() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    stack.tenant("rival").await;
    let rival = stack.key_for("rival", &["adapters:read", "adapters:write", "access:decide"]).await;
    acme.make_adapter("secret", "private").await;
    acme.publish("acme/secret", "1.0.0", 1).await;
    assert_eq!(
        acme.put("/adapters/acme/secret/tags/prod", json!({ "version": "1.0.0" })).await.status(),
        StatusCode::OK
    );
    let before = body(acme.get("/adapters/acme/secret/versions").await, StatusCode::OK).await;
    let hidden = adapter_routes("acme/secret");
    let absent = adapter_routes("acme/absent");
    assert!(hidden.len() >= 15, "{}", hidden.len());
    for (hidden, absent) in hidden.iter().zip(&absent) {
        let given = call(&rival, hidden, "acme/secret").await;
        assert_eq!(given, call(&rival, absent, "acme/absent").await, "{} {}", hidden.method, hidden.path);
        // The operator's own action is refused by scope before anything is looked up.
        let expected = if hidden.path.ends_with("/take-down") { StatusCode::FORBIDDEN } else { StatusCode::NOT_FOUND };
        assert_eq!(given.0, expected, "{} {}", hidden.method, hidden.path);
    }
    assert_eq!(body(acme.get("/adapters/acme/secret/versions").await, StatusCode::OK).await, before);
}

#[tokio::test]
async fn no_route_of_the_document_answers_without_a_key_but_the_open_ones() {
    let stack = Stack::start().await;
    let document = serde_json::to_value(souk_registry::openapi()).unwrap();
    let client = reqwest::Client::new();
    let mut open = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let path = path.strip_prefix("/registry/v1").unwrap().replace(['{', '}'], "");
            let url = format!("{}{path}", stack.base_url);
            let method: Method = method.to_uppercase().parse().unwrap();
            let answer = client.request(method.clone(), url).send().await.unwrap();
            if answer.status() != StatusCode::UNAUTHORIZED {
                open.push(format!("{method} {path}"));
            }
        }
    }
    assert_eq!(open, ["GET /auth/jwks", "POST /auth/login", "GET /base-models", "POST /keys/revoke"]);
}

#[tokio::test]
async fn an_operators_key_does_not_see_private_adapters_either() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    acme.make_adapter("secret", "private").await;
    assert_eq!(stack.admin.get("/adapters/acme/secret").await.status(), StatusCode::NOT_FOUND);
}
