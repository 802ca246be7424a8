//! What is revoked or taken down is refused by every gateway within a second, whatever befalls the stream that tells it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use souk_registries::Withdrawn;
use souk_testkit::proxy::Mode;

use crate::field::{Apart, Field, STALE, until};

/// Longer than any wait that is meant to end.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits until none of these is let in; answers how long that took, each.
async fn until_refused(gateways: &[&Apart], presented: &[&str]) -> Vec<Duration> {
    let began = Instant::now();
    let mut times = Vec::new();
    for gateway in gateways {
        for one in presented {
            until("it is refused", LIMIT, async || gateway.principal(one).await.is_none()).await;
            times.push(began.elapsed());
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_one_registry_revokes_is_refused_by_two_gateways_and_so_are_its_tokens() {
    let field = Field::with(2).await;
    field.tenant("acme").await;
    let (mut one, two) = (field.gateway(), field.gateway());
    one.ready().await;
    two.ready().await;
    for number in [0, 1] {
        let (id, key) = field.key("acme").await;
        let token = field.token(&key).await;
        for gateway in [&one, &two] {
            for presented in [&key, &token] {
                assert!(gateway.principal(presented).await.is_some());
            }
        }
        field.revoke(number, &id).await;
        let times = until_refused(&[&one, &two], &[&key, &token]).await;
        println!("revoked at registry {number}: key and token refused by two gateways after {times:?}");
        // Running answers hear it too.
        let told = tokio::time::timeout(LIMIT, async {
            while one.withdrawn.recv().await.unwrap() != Withdrawn::Key(souk_protocol::KeyId::from_stored(&id)) {}
        });
        told.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_taken_down_is_refused_and_told() {
    let field = Field::with(2).await;
    let (_, key) = field.tenant("acme").await;
    let digest = field.publish(&key, "acme/tone", "1.0.0", 1.0).await;
    let mut gateways = [field.gateway(), field.gateway()];
    let principal = gateways[0].principal(&key).await.unwrap();
    for gateway in &gateways {
        gateway.ready().await;
        gateway.version(&principal, "acme/tone@1.0.0").await.unwrap();
    }
    let path = "adapters/acme/tone/versions/1.0.0/take-down";
    field.operator(Method::POST, path, json!({ "reason": "a test" })).await;
    for gateway in &mut gateways {
        let refused = async || {
            gateway.version(&principal, "acme/tone@1.0.0").await.is_err_and(|told| told.contains("was taken down"))
        };
        let after = until("it is taken down", LIMIT, refused).await;
        println!("a take-down was known after {after:?}");
        let told = tokio::time::timeout(LIMIT, gateway.withdrawn.recv()).await.unwrap().unwrap();
        assert_eq!(told, Withdrawn::Version(digest.parse().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_or_falls_silent_lets_no_revoked_key_and_no_token_through() {
    let field = Field::with(2).await;
    field.tenant("acme").await;
    let apart = field.gateway();
    apart.ready().await;
    for mode in [Mode::Closed, Mode::Silent] {
        for number in [0, 1] {
            let (id, key) = field.key("acme").await;
            let token = field.token(&key).await;
            assert!(apart.principal(&key).await.is_some() && apart.principal(&token).await.is_some());
            // The one that it listens to or the other, just before.
            field.registries[number].proxy.set(mode);
            field.revoke(number, &id).await;
            let times = until_refused(&[&apart], &[&key, &token]).await;
            println!("registry {number} {mode:?}, and revoked: refused after {times:?}");
            for _ in 0..20 {
                assert!(apart.principal(&key).await.is_none() && apart.principal(&token).await.is_none());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            field.registries[number].proxy.set(Mode::Pass);
            tokio::time::sleep(Duration::from_millis(1200)).await;
            assert!(apart.principal(&key).await.is_none() && apart.principal(&token).await.is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_no_registry_reaches_lets_a_revoked_key_in_for_no_longer_than_it_believes_what_it_knew() {
    let field = Field::with(2).await;
    field.tenant("acme").await;
    let (mut apart, mut tells) = (field.gateway(), Vec::new());
    apart.ready().await;
    let (id, key) = field.key("acme").await;
    let token = field.token(&key).await;
    assert!(apart.principal(&key).await.is_some() && apart.principal(&token).await.is_some());
    field.registries.iter().for_each(|one| one.proxy.set(Mode::Silent));
    let cut = Instant::now();
    field.revoke(0, &id).await;
    while cut.elapsed() < STALE + Duration::from_secs(2) {
        let at = cut.elapsed();
        for presented in [&key, &token] {
            let is_let_in = apart.principal(presented).await.is_some();
            assert!(!is_let_in || at <= STALE, "{at:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What was withdrawn meanwhile is heard when it is back, before anybody is let in by it.
    field.registries.iter().for_each(|one| one.proxy.set(Mode::Pass));
    let (_, other) = field.key("acme").await;
    until("others are let in", LIMIT, async || apart.principal(&other).await.is_some()).await;
    assert!(apart.principal(&key).await.is_none() && apart.principal(&token).await.is_none());
    let told = tokio::time::timeout(LIMIT, async {
        while let Some(one) = apart.withdrawn.recv().await {
            let is_it = one == Withdrawn::Key(souk_protocol::KeyId::from_stored(&id));
            tells.push(one);
            if is_it {
                return;
            }
        }
    });
    told.await.unwrap_or_else(|_| panic!("{tells:?}"));
}
