//! Services of the installation: their keys, their tokens, and that neither opens what is the other's. What they ask is in
//! `internal`.

use axum::middleware::from_fn;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use souk_http::public_port::mark;
use souk_registry::{INTERNAL, RULES};

use crate::support::{Stack, User, body, in_haste, problem, wait_until};

/// A service with its key.
pub(crate) async fn service(stack: &Stack, name: &str) -> (String, User) {
    let made = body(stack.admin.post("/services", json!({ "name": name })).await, StatusCode::CREATED).await;
    (made["id"].as_str().unwrap().to_owned(), stack.user(made["secret"].as_str().unwrap()))
}

/// A node with its key.
pub(crate) async fn node(stack: &Stack, name: &str) -> User {
    let asked = json!({ "name": name, "kind": "node" });
    let made = body(stack.admin.post("/services", asked).await, StatusCode::CREATED).await;
    stack.user(made["secret"].as_str().unwrap())
}

/// The service with what its key was exchanged for.
pub(crate) async fn with_token(stack: &Stack, service: &User) -> User {
    let exchanged = body(service.request(Method::POST, "/internal/token").send().await.unwrap(), StatusCode::OK).await;
    assert_eq!(exchanged["expires_in"], 900);
    stack.user(exchanged["access_token"].as_str().unwrap())
}

/// Asks a route of services with nothing to ask.
pub(crate) async fn ask(user: &User, (method, path, _): (&str, &str, &str)) -> Response {
    let path = path.replace("{digest}", &format!("sha256:{}", "0".repeat(64))).replace("{engine}", "e");
    let request = user.request(method.parse().unwrap(), &path);
    if method == "POST" { request.json(&json!({})) } else { request }.send().await.unwrap()
}

#[tokio::test]
async fn an_operator_makes_keys_for_services_sees_them_and_revokes_them() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    problem(acme.post("/services", json!({ "name": "x" })).await, StatusCode::FORBIDDEN, "scope_missing").await;
    problem(acme.get("/services").await, StatusCode::FORBIDDEN, "scope_missing").await;
    let bad = stack.admin.post("/services", json!({ "name": "Gateway 1" })).await;
    assert_eq!(problem(bad, StatusCode::BAD_REQUEST, "invalid_fields").await["errors"][0]["subject"], "name");

    // One follows the other under the same name.
    let (old, _) = service(&stack, "gateway-1").await;
    let (new, at_new) = service(&stack, "gateway-1").await;
    let listed = body(stack.admin.get("/services").await, StatusCode::OK).await;
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&&*old) && ids.contains(&&*new));
    assert!(!listed.to_string().contains(&at_new.key), "a secret is shown once");
    for _ in 0..2 {
        assert_eq!(stack.admin.delete(&format!("/services/{old}")).await.status(), StatusCode::NO_CONTENT);
    }
    problem(stack.admin.delete("/services/another").await, StatusCode::NOT_FOUND, "not_found").await;
    let listed = body(stack.admin.get("/services").await, StatusCode::OK).await;
    let revoked = listed["data"].as_array().unwrap().iter().filter(|one| !one["revoked_at"].is_null());
    assert_eq!(revoked.map(|one| one["id"].as_str().unwrap()).collect::<Vec<_>>(), [old]);
    with_token(&stack, &at_new).await;

    // Repeated with the same key it makes nothing, and shows no secret again.
    let make = || {
        let request = stack.admin.request(Method::POST, "/services").header("idempotency-key", "k");
        request.json(&json!({ "name": "gateway-2" })).send()
    };
    let first = body(make().await.unwrap(), StatusCode::CREATED).await;
    let again = body(make().await.unwrap(), StatusCode::CREATED).await;
    assert_eq!((&first["id"], again["secret"].is_null()), (&again["id"], true));
    let actions = stack.number("SELECT COUNT(*) AS n FROM audit_entries WHERE action LIKE 'service.%'").await;
    assert_eq!(actions, 4, "three were made and one was revoked");
}

#[tokio::test]
async fn routes_of_services_take_a_services_token_and_nothing_else() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let (_, with_key) = service(&stack, "gateway-1").await;
    let exchanged = body(acme.post("/auth/token", json!({})).await, StatusCode::OK).await;
    let tenants_token = stack.user(exchanged["access_token"].as_str().unwrap());
    for route in INTERNAL {
        let is_exchange = route.1 == "/internal/token";
        for (user, who) in [(&acme, "a tenant"), (&tenants_token, "its token"), (&stack.admin, "an operator")] {
            let refused = ask(user, route).await;
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{route:?}, {who}");
            problem(refused, StatusCode::UNAUTHORIZED, "key_invalid").await;
        }
        let (token, key) = (with_token(&stack, &with_key).await, &with_key);
        let (good, bad) = if is_exchange { (key, &token) } else { (&token, key) };
        assert_ne!(ask(good, route).await.status(), StatusCode::UNAUTHORIZED, "{route:?}");
        problem(ask(bad, route).await, StatusCode::UNAUTHORIZED, "key_invalid").await;
        let nobody = stack.admin.client.request(
            route.0.parse().unwrap(),
            format!("{}{}", stack.base_url, route.1.replace("{digest}", "x").replace("{engine}", "e")),
        );
        problem(nobody.send().await.unwrap(), StatusCode::UNAUTHORIZED, "key_missing").await;
    }
}

#[tokio::test]
async fn a_services_key_and_token_open_no_route_of_tenants_or_operators() {
    let stack = Stack::start().await;
    let (_, key) = service(&stack, "gateway-1").await;
    let token = with_token(&stack, &key).await;
    for rule in RULES {
        if rule.needs == souk_registry::Needs::Nothing {
            continue;
        }
        let path = rule.path.replace(['{', '}'], "");
        for user in [&key, &token] {
            let refused = user.request(rule.method.parse().unwrap(), &path).json(&json!({})).send().await.unwrap();
            problem(refused, StatusCode::UNAUTHORIZED, "key_invalid").await;
        }
    }
    // A gateway in the registry's process asks the same.
    for presented in [&key.key, &token.key] {
        assert!(stack.registry.authenticate(presented).await.is_err());
    }
}

#[tokio::test]
async fn a_token_that_is_tampered_with_is_refused() {
    let stack = Stack::start().await;
    let (_, key) = service(&stack, "gateway-1").await;
    let token = with_token(&stack, &key).await.key;
    let [head, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let write = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let (head, claims) = (read(head), read(claims));
    assert_eq!(
        (&claims["aud"], &claims["service"], &head["alg"]),
        (&json!("souk:services"), &json!("gateway-1"), &json!("EdDSA"))
    );
    let lives = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(lives, 900);
    let with = |value: &Value, field: &str, new: Value| {
        let mut value = value.clone();
        value[field] = new;
        value
    };
    let tampered = [
        ("exp", format!("{}.{}.{signature}", write(&head), write(&with(&claims, "exp", json!(99_999_999_999_u64))))),
        ("sub", format!("{}.{}.{signature}", write(&head), write(&with(&claims, "sub", json!("another"))))),
        ("aud", format!("{}.{}.{signature}", write(&head), write(&with(&claims, "aud", json!("souk:api"))))),
        ("alg none", format!("{}.{}.", write(&with(&head, "alg", json!("none"))), write(&claims))),
        ("alg HS256", format!("{}.{}.{signature}", write(&with(&head, "alg", json!("HS256"))), write(&claims))),
        ("kid", format!("{}.{}.{signature}", write(&with(&head, "kid", json!("sig_made_up"))), write(&claims))),
        ("no signature", format!("{}.{}.", write(&head), write(&claims))),
        ("cut", token[..token.len() - 1].to_owned()),
    ];
    for (what, text) in tampered {
        let refused = stack.user(&text).post("/internal/authenticate", json!({ "presented": "x" })).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{what}");
    }
}

#[tokio::test]
async fn a_revoked_services_tokens_end_at_once_and_at_another_registry_within_a_second() {
    let first = Stack::start_with(in_haste).await;
    let (id, key) = service(&first, "gateway-1").await;
    let token = with_token(&first, &key).await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let at_second = second.user(&token.key);
    let asked = json!({ "presented": "nothing" });
    assert_eq!(at_second.post("/internal/authenticate", asked.clone()).await.status(), StatusCode::OK);
    assert_eq!(first.admin.delete(&format!("/services/{id}")).await.status(), StatusCode::NO_CONTENT);
    problem(
        key.request(Method::POST, "/internal/token").send().await.unwrap(),
        StatusCode::UNAUTHORIZED,
        "key_revoked",
    )
    .await;
    problem(token.post("/internal/authenticate", asked.clone()).await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    wait_until("the second has heard", async || {
        at_second.post("/internal/authenticate", asked.clone()).await.status() == StatusCode::UNAUTHORIZED
    })
    .await;
    // One that starts after the revocation knows it.
    let third = Stack::start_in(first.folder.clone(), in_haste).await;
    let refused = third.user(&token.key).post("/internal/authenticate", asked).await;
    problem(refused, StatusCode::UNAUTHORIZED, "key_revoked").await;
}

#[tokio::test]
async fn on_the_port_for_everybody_routes_of_services_are_not_there() {
    let stack = Stack::start().await;
    let (_, key) = service(&stack, "gateway-1").await;
    let token = with_token(&stack, &key).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let public = format!("http://{}/registry/v1", listener.local_addr().unwrap());
    let router = souk_registry::router(stack.registry.clone()).0.layer(from_fn(mark));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    for route in INTERNAL {
        for presented in [&key, &token] {
            problem(ask(&User::new(&public, &presented.key), route).await, StatusCode::NOT_FOUND, "not_found").await;
        }
    }
    server.abort();
}
