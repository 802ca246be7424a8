//! What is kept for a moment for a gateway in the same process is never older than the last change.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use souk_protocol::{AdapterRef, ResolveError};
use souk_registry::{AuthError, WarmCatalog};

use crate::support::{Stack, User, body, in_haste, wait_until};

fn reference(text: &str) -> AdapterRef {
    text.parse().unwrap()
}

fn is_absent<T>(result: &Result<T, ResolveError>) -> bool {
    matches!(result, Err(ResolveError::NotFound(_)))
}

/// A key of the tenant, with its id.
async fn made_key(tenant: &User) -> (String, String) {
    let request = json!({ "name": "k", "scopes": ["inference"] });
    let made = body(tenant.post("/keys", request).await, StatusCode::CREATED).await;
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_revoked_key_and_its_token_are_refused_at_the_very_next_request() {
    let stack = Stack::start().await;
    let warm = WarmCatalog::new(stack.registry.clone(), Duration::ZERO);
    let acme = stack.tenant("acme").await;
    for _ in 0..20 {
        let (id, secret) = made_key(&acme).await;
        let token = body(stack.user(&secret).post("/auth/token", json!({})).await, StatusCode::OK).await;
        let token = token["access_token"].as_str().unwrap();
        for presented in [&secret, token] {
            let principal = warm.authenticate(presented).await.unwrap();
            assert_eq!((principal.key.as_str(), principal.tenant_name.as_str()), (&*id, "acme"));
        }
        assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
        for presented in [&secret, token] {
            assert!(matches!(warm.authenticate(presented).await, Err(AuthError::Invalid)));
        }
    }
}

#[tokio::test]
async fn requests_that_run_while_a_key_is_revoked_leave_nothing_behind_that_lets_it_in() {
    let stack = Stack::start().await;
    let warm = WarmCatalog::new(stack.registry.clone(), Duration::ZERO);
    let acme = stack.tenant("acme").await;
    for _ in 0..3 {
        let (id, secret) = made_key(&acme).await;
        let asking = tokio::spawn({
            let (warm, secret) = (warm.clone(), secret.clone());
            // What is kept is answered without a wait, so it gives way to the others by itself.
            async move {
                while warm.authenticate(&secret).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
        for _ in 0..50 {
            assert!(warm.authenticate(&secret).await.is_err());
        }
        asking.await.unwrap();
    }
}

#[tokio::test]
async fn what_a_name_means_follows_every_change_at_once() {
    let stack = Stack::start().await;
    let warm = WarmCatalog::new(stack.registry.clone(), Duration::ZERO);
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    let (own, others) = (stack.principal(&acme).await, stack.principal(&rival).await);
    let version = async |name: &str| warm.resolve(&own, &reference(name)).await.map(|found| found.version.to_string());
    assert!(is_absent(&version("acme/tone").await));
    acme.make_adapter("tone", "private").await;
    acme.publish("acme/tone", "1.0.0", 1).await;
    assert_eq!(version("acme/tone").await.unwrap(), "1.0.0");
    acme.publish("acme/tone", "2.0.0", 2).await;
    assert_eq!(version("acme/tone").await.unwrap(), "2.0.0");
    let tag =
        async |number: &str| acme.put("/adapters/acme/tone/tags/prod", json!({ "version": number })).await.status();
    for number in ["1.0.0", "2.0.0", "1.0.0"] {
        assert!(tag(number).await.is_success());
        assert_eq!(version("acme/tone:prod").await.unwrap(), number);
    }
    assert_eq!(acme.post("/adapters/acme/tone/versions/2.0.0/yank", json!({})).await.status(), StatusCode::OK);
    assert_eq!(version("acme/tone").await.unwrap(), "1.0.0");

    let seen = async || warm.resolve(&others, &reference("acme/tone")).await;
    assert!(is_absent(&seen().await));
    for (visibility, is_seen) in [("public", true), ("private", false)] {
        let changed = acme.patch("/adapters/acme/tone", json!({ "visibility": visibility })).await;
        assert_eq!(changed.status(), StatusCode::OK);
        assert_eq!(seen().await.is_ok(), is_seen, "{visibility}");
    }
    let taken_down = stack.admin.post("/adapters/acme/tone/versions/1.0.0/take-down", json!({ "reason": "x" })).await;
    assert_eq!(taken_down.status(), StatusCode::OK);
    assert!(matches!(version("acme/tone@1.0.0").await, Err(ResolveError::TakenDown(_))));
    assert_eq!(acme.delete("/adapters/acme/tone").await.status(), StatusCode::NO_CONTENT);
    assert!(is_absent(&version("acme/tone@1.0.0").await));
}

#[tokio::test]
async fn what_another_registry_changes_is_known_within_a_second() {
    let first = Stack::start_with(in_haste).await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let warm = WarmCatalog::new(second.registry.clone(), Duration::ZERO);
    let acme = first.tenant("acme").await;
    let (id, secret) = made_key(&acme).await;
    warm.authenticate(&secret).await.unwrap();
    let revoked_at = Instant::now();
    assert_eq!(acme.delete(&format!("/keys/{id}")).await.status(), StatusCode::NO_CONTENT);
    wait_until("the key is refused", async || warm.authenticate(&secret).await.is_err()).await;
    println!("a key that another registry revoked was refused after {:?}", revoked_at.elapsed());

    let own = first.principal(&acme).await;
    acme.make_adapter("tone", "private").await;
    acme.publish("acme/tone", "1.0.0", 1).await;
    let version =
        async || warm.resolve(&own, &reference("acme/tone")).await.map(|found| found.version.to_string()).ok();
    wait_until("the version is found", async || version().await.as_deref() == Some("1.0.0")).await;
    acme.publish("acme/tone", "2.0.0", 2).await;
    wait_until("the next one is", async || version().await.as_deref() == Some("2.0.0")).await;
}

#[tokio::test]
async fn a_key_that_expires_is_kept_for_a_second_at_most() {
    let stack = Stack::start().await;
    let warm = WarmCatalog::new(stack.registry.clone(), Duration::ZERO);
    let acme = stack.tenant("acme").await;
    let soon = time::OffsetDateTime::from(souk_protocol::wall_clock::now()) + Duration::from_secs(2);
    let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
    let request = json!({ "name": "short", "scopes": ["inference"], "expires_at": soon });
    let made = body(acme.post("/keys", request).await, StatusCode::CREATED).await;
    let secret = made["secret"].as_str().unwrap();
    assert!(warm.authenticate(secret).await.is_ok());
    wait_until("it is refused", async || warm.authenticate(secret).await.is_err()).await;
}
