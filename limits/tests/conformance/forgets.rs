//! What the store in memory forgets, so that its memory is bounded by what is in use.

use std::time::Duration;

use souk_limits::port::{IDLE, LEASE};
use souk_limits::repeats::KEPT_FOR;
use souk_limits::{Ask, Held, Limits, MemoryLimits, MemorySizes, RepeatKey, Repeats};
use souk_protocol::Policy::{RequestsPerMinute, TokensPerMonth};
use souk_protocol::{Digest, RequestId, Subject, TenantId};

use crate::support::*;

/// Requests of so many tenants, each with a bucket and a budget.
async fn reserve_all(limits: &MemoryLimits, num_tenants: usize) -> Vec<Ask> {
    let mut asks = Vec::new();
    for number in 0..num_tenants {
        let tenant = TenantId::from_stored(format!("ten_{number}"));
        let all: &[_] = &[(RequestsPerMinute, limit(1)), (TokensPerMonth, limit(100))];
        let tree = tree([(Subject::Tenant(tenant.clone()), all), (of_key(&format!("key_{number}")), &[])]);
        let ask = Ask { tenant, ..ask(&tree, 10, 10) };
        limits.count(&ask.tenant, &totals(&ask, 0, 0), &[]).await.unwrap();
        limits.reserve(&ask).await.unwrap();
        asks.push(ask);
    }
    asks
}

/// Has every shard look for what fell due.
async fn look_everywhere(limits: &MemoryLimits, asks: &[Ask]) {
    for ask in asks {
        Limits::renew(limits, &ask.tenant, &[]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn levels_that_nobody_uses_are_forgotten_and_what_is_held_is_not() {
    let limits = MemoryLimits::new(0);
    tokio::time::sleep(MINUTE).await;
    let asks = reserve_all(&limits, 100).await;
    assert_eq!(limits.sizes(), MemorySizes { holdings: 100, levels: 200, ..MemorySizes::default() });
    let (settled, lapsed) = asks.split_at(40);
    for ask in settled {
        limits.settle(&ask.tenant, &ask.request, amounts(5, 0)).await.unwrap();
    }
    tokio::time::sleep(LEASE).await;
    look_everywhere(&limits, &asks).await;
    assert_eq!((limits.sizes().holdings, limits.sizes().levels), (40, 200), "buckets are not full yet");
    tokio::time::sleep(IDLE).await;
    look_everywhere(&limits, &asks).await;
    assert_eq!((limits.sizes().holdings, limits.sizes().levels), (40, 80));
    assert!(
        limits.reserve(&Ask { request: RequestId::new(), ..lapsed[0].clone() }).await.is_err(),
        "its total is asked for again"
    );
    for ask in settled {
        limits.count(&ask.tenant, &totals(ask, 5, 1), std::slice::from_ref(&ask.request)).await.unwrap();
    }
    tokio::time::sleep(IDLE).await;
    look_everywhere(&limits, &asks).await;
    assert_eq!(limits.sizes(), MemorySizes::default());
}

#[tokio::test(start_paused = true)]
async fn what_was_settled_and_never_counted_is_let_go_a_day_after_its_month() {
    let limits = MemoryLimits::new(0);
    tokio::time::sleep(MINUTE).await;
    let asks = reserve_all(&limits, 3).await;
    let held: Vec<_> = asks.iter().map(|ask| Ask { request: RequestId::new(), ..ask.clone() }).collect();
    limits.restore(&held.into_iter().map(|ask| Held { ask, is_settled: true }).collect::<Vec<_>>()).await.unwrap();
    let left = Duration::from_secs((36 + 24) * 3600);
    tokio::time::sleep(left - MINUTE).await;
    look_everywhere(&limits, &asks).await;
    assert_eq!(limits.sizes().holdings, 3);
    tokio::time::sleep(MINUTE * 2).await;
    look_everywhere(&limits, &asks).await;
    assert_eq!(limits.sizes().holdings, 0);
}

#[tokio::test(start_paused = true)]
async fn repeats_take_no_more_than_they_may_and_are_forgotten_in_time() {
    let limits = MemoryLimits::new(10_000);
    let key = |number: u32| RepeatKey(Digest::of(&number.to_le_bytes()));
    let request = RequestId::new();
    for number in 0..100 {
        limits.begin(&tenant(), key(number), Digest::of(b"body"), &request).await.unwrap();
        limits.end(&tenant(), key(number), &request, None).await.unwrap();
        assert!(limits.sizes().repeat_bytes <= 10_000);
    }
    assert!((10..100).contains(&limits.sizes().repeats), "{:?}", limits.sizes());
    limits.begin(&tenant(), key(1000), Digest::of(b"body"), &request).await.unwrap();
    tokio::time::sleep(KEPT_FOR).await;
    Repeats::renew(&limits, &tenant(), &[]).await.unwrap();
    assert_eq!(limits.sizes(), MemorySizes::default());
}
