//! Registries that die, are silent, and come back.

use std::time::{Duration, Instant};

use souk_gateway::{AuthError, Catalog as _};
use souk_testkit::proxy::Mode;

use crate::field::{Field, STALE, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_of_two_registries_nothing_is_refused_whichever_is_gone_and_however() {
    let field = Field::with(2).await;
    let (_, key) = field.tenant("acme").await;
    field.publish(&key, "acme/tone", "1.0.0", 1.0).await;
    let apart = field.gateway();
    apart.ready().await;
    for mode in [Mode::Closed, Mode::Silent] {
        for number in [0, 1] {
            field.registries[number].proxy.set(mode);
            let began = Instant::now();
            // Longer than what was known is believed.
            while began.elapsed() < STALE + Duration::from_secs(1) {
                let principal = apart.catalog.authenticate(&key).await.unwrap();
                assert_eq!(apart.version(&principal, "acme/tone").await.unwrap(), "1.0.0");
                assert_eq!(apart.catalog.list(&principal, 10).await.unwrap().entries.len(), 1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            field.registries[number].proxy.set(Mode::Pass);
            // Whoever could not be reached is tried again after a second.
            tokio::time::sleep(Duration::from_millis(1200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_what_was_known_counts_for_a_while_then_nobody_is_let_in_and_then_all_are_again() {
    let field = Field::with(2).await;
    let (_, key) = field.tenant("acme").await;
    let (_, unknown) = field.key("acme").await;
    field.publish(&key, "acme/tone", "1.0.0", 1.0).await;
    let apart = field.gateway();
    apart.ready().await;
    let principal = apart.principal(&key).await.unwrap();
    apart.version(&principal, "acme/tone").await.unwrap();
    let token = field.token(&key).await;
    apart.principal(&token).await.unwrap();
    let connections: u64 = field.registries.iter().map(|one| one.proxy.accepted()).sum();
    field.registries.iter().for_each(|one| one.proxy.set(Mode::Closed));
    let gone = Instant::now();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (mut num_served, mut last_served) = (0, Duration::ZERO);
    while gone.elapsed() < STALE + Duration::from_secs(2) {
        let at = gone.elapsed();
        for presented in [&key, &token] {
            match apart.catalog.authenticate(presented).await {
                Ok(_) => (num_served, last_served) = (num_served + 1, at),
                Err(AuthError::Unavailable(_)) => {}
                Err(AuthError::Invalid) => panic!("what is good is not said to be nothing"),
            }
        }
        assert!(apart.version(&principal, "acme/tone").await.is_err() || at <= STALE);
        // Whoever was not known is not let in, nor called a stranger.
        assert!(matches!(apart.catalog.authenticate(&unknown).await, Err(AuthError::Unavailable(_))));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("without registries {num_served} calls were served, the last after {last_served:?}");
    assert!(num_served > 0 && last_served <= STALE, "{last_served:?}");
    assert!(apart.catalog.lost_for().is_some_and(|lost| lost >= STALE), "it is not ready");
    let asked: u64 = field.registries.iter().map(|one| one.proxy.accepted()).sum();
    assert!(asked - connections < 400, "{} connections while nobody answers", asked - connections);

    field.registries[1].proxy.set(Mode::Pass);
    let limit = Duration::from_secs(20);
    let after = until("it goes on", limit, async || apart.principal(&unknown).await.is_some()).await;
    println!("it went on {after:?} after a registry was back");
    until("it hears again", limit, async || apart.catalog.lost_for().is_none()).await;
    assert!(apart.principal(&token).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_starts_before_its_registries_waits_and_says_so() {
    let field = Field::with(1).await;
    let (_, key) = field.tenant("acme").await;
    field.registries[0].proxy.set(Mode::Closed);
    let apart = field.gateway();
    assert_eq!(apart.catalog.lost_for(), Some(Duration::MAX));
    assert!(matches!(apart.catalog.authenticate(&key).await, Err(AuthError::Unavailable(_))));
    field.registries[0].proxy.set(Mode::Pass);
    let limit = Duration::from_secs(20);
    until("it is let in", limit, async || apart.principal(&key).await.is_some()).await;
    apart.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_burst_of_calls_with_one_key_asks_once_and_other_tenants_do_not_wait_for_it() {
    let field = Field::with(1).await;
    let (_, key) = field.tenant("acme").await;
    let (_, others) = field.tenant("rival").await;
    let apart = field.gateway();
    apart.ready().await;
    let known = apart.principal(&others).await.unwrap();
    let connections = field.registries[0].proxy.accepted();
    let burst: Vec<_> = (0..400)
        .map(|_| {
            let (catalog, key) = (apart.catalog.clone(), key.clone());
            tokio::spawn(async move { catalog.authenticate(&key).await.is_ok() })
        })
        .collect();
    for one in burst {
        assert!(one.await.unwrap());
    }
    let more = field.registries[0].proxy.accepted() - connections;
    assert!(more <= 4, "{more} connections for one key");
    // As many different questions as there can be.
    let principal = apart.principal(&key).await.unwrap();
    let flood: Vec<_> = (0..400)
        .map(|number| {
            let (catalog, principal) = (apart.catalog.clone(), principal.clone());
            let reference = format!("acme/none-{number}").parse().unwrap();
            tokio::spawn(
                async move { catalog.resolve(&principal, &reference).await.err().map(|error| error.to_string()) },
            )
        })
        .collect();
    let other = apart.version(&known, "rival/none").await.unwrap_err();
    assert!(other.contains("does not exist"), "{other}");
    for one in flood {
        assert!(one.await.unwrap().is_some());
    }
}
