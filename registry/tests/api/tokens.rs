//! Tokens that a key is exchanged for. How each kind of tampering is refused is tested beside the verifier.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_http::token::{API, Verifier};
use souk_protocol::Scope;

use crate::support::{Stack, User, body, in_haste, problem, wait_until};

/// Exchanges the user's key.
async fn exchange(user: &User, request: Value) -> Value {
    body(user.post("/auth/token", request).await, StatusCode::OK).await
}

/// Who presents what the key was exchanged for.
pub(crate) async fn with_token(stack: &Stack, user: &User) -> User {
    stack.user(exchange(user, json!({})).await["access_token"].as_str().unwrap())
}

pub(crate) async fn keys(stack: &Stack) -> Vec<Value> {
    let answer = stack.user("").client.get(format!("{}/auth/jwks", stack.base_url)).send().await.unwrap();
    body(answer, StatusCode::OK).await["keys"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_token_works_where_its_key_does_and_grants_no_more() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let exchanged = exchange(&acme, json!({ "scopes": ["adapters:read"] })).await;
    assert_eq!(exchanged["token_type"], "Bearer");
    assert_eq!(exchanged["expires_in"], 900);
    assert_eq!(exchanged["scopes"], json!(["adapters:read"]));
    let narrow = stack.user(exchanged["access_token"].as_str().unwrap());
    assert_eq!(narrow.get("/adapters").await.status(), StatusCode::OK);
    problem(narrow.post("/adapters", json!({ "name": "x" })).await, StatusCode::FORBIDDEN, "scope_missing").await;
    let all = with_token(&stack, &acme).await;
    assert_eq!(all.post("/adapters", json!({ "name": "x" })).await.status(), StatusCode::CREATED);
    assert_eq!(stack.principal(&all).await, stack.principal(&acme).await);
    // It says who presented it in what it makes.
    let made =
        body(all.post("/keys", json!({ "name": "k", "scopes": ["inference"] })).await, StatusCode::CREATED).await;
    assert_eq!(made["made_by"], stack.principal(&acme).await.key.as_str());
}

#[tokio::test]
async fn a_token_is_made_from_a_key_and_of_scopes_that_it_has() {
    let stack = Stack::start().await;
    let reader = {
        stack.tenant("acme").await;
        stack.key_for("acme", &["adapters:read"]).await
    };
    let more = reader.post("/auth/token", json!({ "scopes": ["adapters:write"] })).await;
    problem(more, StatusCode::FORBIDDEN, "scope_not_held").await;
    for (scopes, subject) in [(json!([]), "scopes"), (json!(["adapters:read", "all"]), "scopes[1]")] {
        let refused = reader.post("/auth/token", json!({ "scopes": scopes })).await;
        assert_eq!(body(refused, StatusCode::BAD_REQUEST).await["errors"][0]["subject"], subject);
    }
    let token = with_token(&stack, &reader).await;
    problem(token.post("/auth/token", json!({})).await, StatusCode::FORBIDDEN, "token_for_token").await;
    problem(stack.user("eyJ.eyJ.x").get("/adapters").await, StatusCode::UNAUTHORIZED, "key_invalid").await;
}

#[tokio::test]
async fn a_token_lives_no_longer_than_its_key() {
    let stack = Stack::start().await;
    let acme = stack.tenant("acme").await;
    let soon = time::OffsetDateTime::from(souk_protocol::wall_clock::now()) + time::Duration::seconds(60);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let short = json!({ "name": "short", "scopes": ["adapters:read"], "expires_at": soon });
    let short = body(acme.post("/keys", short).await, StatusCode::CREATED).await;
    let exchanged = exchange(&stack.user(short["secret"].as_str().unwrap()), json!({})).await;
    let lives = exchanged["expires_in"].as_u64().unwrap();
    assert!((1..=60).contains(&lives), "{lives}");
}

#[tokio::test]
async fn a_revoked_keys_tokens_end_at_once_and_at_another_registry_within_a_second() {
    let first = Stack::start_with(in_haste).await;
    let acme = first.tenant("acme").await;
    let made =
        body(acme.post("/keys", json!({ "name": "k", "scopes": ["adapters:read"] })).await, StatusCode::CREATED).await;
    let token = with_token(&first, &first.user(made["secret"].as_str().unwrap())).await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let at_second = second.user(&token.key);
    // A token that the second has never seen the key of, since it began later or not.
    assert_eq!(at_second.get("/adapters").await.status(), StatusCode::OK);
    let id = made["id"].as_str().unwrap();
    assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    problem(token.get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
    wait_until("the second has heard", async || at_second.get("/adapters").await.status() == StatusCode::UNAUTHORIZED)
        .await;
    // One that starts after the revocation has not heard it told, and knows.
    let third = Stack::start_in(first.folder.clone(), in_haste).await;
    problem(third.user(&token.key).get("/adapters").await, StatusCode::UNAUTHORIZED, "key_revoked").await;
}

#[tokio::test]
async fn a_rotated_signing_key_goes_on_to_verify_and_the_new_one_is_known_everywhere() {
    let first = Stack::start_with(in_haste).await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let acme = first.tenant("acme").await;
    let before = with_token(&first, &acme).await;
    let made = body(first.admin.post("/auth/signing-keys", json!({})).await, StatusCode::CREATED).await;
    let after = with_token(&first, &acme).await;
    let published = keys(&first).await;
    assert_eq!(published.len(), 2);
    assert_eq!(published[0], made);
    assert_eq!(
        (&made["kty"], &made["crv"], &made["alg"], &made["use"]),
        (&json!("OKP"), &json!("Ed25519"), &json!("EdDSA"), &json!("sig"))
    );
    // The second reads the table again for a key that it does not know, also when it did so a moment ago.
    problem(second.user(&of_no_key(&after.key)).get("/adapters").await, StatusCode::UNAUTHORIZED, "key_invalid").await;
    for token in [&before, &after] {
        for stack in [&first, &second] {
            assert_eq!(stack.user(&token.key).get("/adapters").await.status(), StatusCode::OK);
        }
    }
    // With what is published anybody can verify, without asking.
    let known = published.iter().map(|key| ["kid", "x"].map(|field| key[field].as_str().unwrap().to_owned()).into());
    let claims = first.registry.authenticate(&after.key).await.map(|_| ()).and(Ok(()));
    claims.unwrap();
    let issuer = issuer_of(&after.key);
    let verified = Verifier::new(&issuer, API, known).verify(&after.key).unwrap();
    assert!(verified.principal().may(Scope::AdaptersRead));
}

/// What a token says of who issued it, without looking at the signature.
fn issuer_of(token: &str) -> String {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["iss"].as_str().unwrap().to_owned()
}

/// The token as if it were signed with a key that nobody has.
fn of_no_key(token: &str) -> String {
    let header = json!({ "typ": "JWT", "alg": "EdDSA", "kid": "sig_of_nobody" }).to_string();
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header))
}
