//! What may happen to Redis and on the way to it.

use std::sync::Arc;
use std::time::Duration;

use souk_limits::port::LEASE;
use souk_limits::{Amounts, Ask, Held, Limits, RedisLimits, ReserveError};
use souk_protocol::LimitTree;
use souk_protocol::Policy::{InputTokensPerMinute, TokensPerMonth};
use souk_redis::RedisSettings;
use souk_testkit::redis::Redis;

use crate::support::*;

/// So short that a server that stalls is noticed in the time of a test.
const TIMEOUT: Duration = Duration::from_millis(300);

fn gateway(server: &Redis) -> RedisLimits {
    let settings =
        RedisSettings { connect_timeout: TIMEOUT * 10, response_timeout: TIMEOUT, ..RedisSettings::at(server.url()) };
    RedisLimits::new(&settings, MAX_REPEAT_BYTES).unwrap()
}

fn budget() -> Arc<LimitTree> {
    limited(&[(TokensPerMonth, limit(100))])
}

async fn is_away(limits: &RedisLimits, ask: &Ask) -> bool {
    matches!(limits.reserve(ask).await, Err(ReserveError::Unavailable(_)))
}

/// What is left of the one limit of an ask.
async fn left(limits: &RedisLimits, like: &Ask) -> u64 {
    let ask = Ask { request: souk_protocol::RequestId::new(), amounts: Amounts::default(), ..like.clone() };
    let left = limits.reserve(&ask).await.unwrap().standings[0].remaining;
    limits.settle(&ask.tenant, &ask.request, Amounts::default()).await.unwrap();
    left
}

/// Moves the clocks of all shards on.
fn pass(server: &Redis, time: Duration) {
    move_clocks(server, i64::try_from(time.as_millis()).unwrap(), 0);
}

/// A server whose budgets are open, with two gateways, one of which has a request under way.
async fn open(server: &Redis) -> (RedisLimits, RedisLimits, Ask) {
    let (first, second) = (gateway(server), gateway(server));
    first.connect().await.unwrap();
    pass(server, LEASE);
    let ask = ask(&budget(), 30, 0);
    second.count(&ask.tenant, &totals(&ask, 50, 5), &[]).await.unwrap();
    first.reserve(&ask).await.unwrap();
    assert_eq!(left(&second, &ask).await, 20, "they have one store");
    (first, second, ask)
}

/// What follows a start of the server, whether or not it had its data.
async fn gathers(server: &Redis, first: &RedisLimits, second: &RedisLimits, held: &Ask) {
    let (other, rate) = (ask(&budget(), 15, 0), ask(&limited(&[(InputTokensPerMinute, limit(4))]), 1, 0));
    let shut = second.reserve(&other).await;
    let Err(ReserveError::Gathering { retry_after }) = shut else { panic!("{shut:?}") };
    assert_about(Some(retry_after), LEASE);
    assert!(matches!(second.reserve(&rate).await, Err(ReserveError::Refused(_))), "buckets begin empty");
    // A total that was on its way is not taken for one that was read since.
    second.count(&other.tenant, &totals(&other, 10, 1), &[]).await.unwrap();
    let unknown = first.renew(&held.tenant, std::slice::from_ref(&held.request)).await.unwrap();
    assert_eq!(unknown, std::slice::from_ref(&held.request));
    first.restore(&[Held { ask: held.clone(), is_settled: false }]).await.unwrap();
    pass(server, LEASE - SLACK);
    first.renew(&held.tenant, &unknown).await.unwrap();
    assert!(matches!(second.reserve(&other).await, Err(ReserveError::Gathering { .. })));
    pass(server, SLACK);
    assert!(matches!(second.reserve(&other).await, Err(ReserveError::TotalsUnknown(keys)) if keys.len() == 1));
    second.count(&other.tenant, &totals(&other, 50, 5), &[]).await.unwrap();
    assert_eq!(left(second, &other).await, 20, "what was held is held");
}

async fn killed_and_back(mut server: Redis) {
    let (first, second, held) = open(&server).await;
    server.kill();
    let other = ask(&budget(), 1, 0);
    for limits in [&first, &second] {
        assert!(is_away(limits, &other).await);
        assert!(limits.settle(&held.tenant, &held.request, Amounts::default()).await.is_err());
        assert!(limits.count(&held.tenant, &[], &[]).await.is_err());
    }
    server.start();
    // Who failed to connect a moment ago does not try at once.
    tokio::time::sleep(TIMEOUT).await;
    gathers(&server, &first, &second, &held).await;
}

#[tokio::test]
async fn a_server_that_comes_back_without_its_data_gathers_what_is_held() {
    killed_and_back(Redis::that_forgets()).await;
}

#[tokio::test]
async fn a_server_that_comes_back_with_its_data_gathers_too_since_that_may_be_old() {
    killed_and_back(Redis::that_keeps_its_data()).await;
}

#[tokio::test]
async fn a_server_that_somebody_empties_gathers_and_has_its_functions_again() {
    let server = Redis::that_forgets();
    let (first, second, held) = open(&server).await;
    server.cli(&["FLUSHALL"]);
    server.cli(&["FUNCTION", "FLUSH"]);
    gathers(&server, &first, &second, &held).await;
}

#[tokio::test]
async fn a_server_that_stalls_is_away_and_what_it_did_later_is_done_once() {
    let server = Redis::that_forgets();
    let (first, second, held) = open(&server).await;
    let other = ask(&budget(), 5, 0);
    server.stall();
    for limits in [&first, &second] {
        assert!(is_away(limits, &other).await);
        assert!(limits.settle(&held.tenant, &held.request, amounts(7, 0)).await.is_err());
    }
    // Both have waited for an answer and for a new connection meanwhile, several seconds in all.
    server.go_on();
    tokio::time::sleep(TIMEOUT).await;
    first.reserve(&other).await.unwrap();
    first.settle(&held.tenant, &held.request, amounts(7, 0)).await.unwrap();
    assert_eq!(left(&second, &other).await, 100 - 50 - 7 - 5);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    let server = Redis::that_forgets();
    let (first, _, held) = open(&server).await;
    for _ in 0..5 {
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        // Whoever asks first may hear of it.
        drop(first.count(&held.tenant, &[], &[]).await);
        assert_eq!(left(&first, &held).await, 20);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_all_or_nothing() {
    let server = Redis::that_forgets();
    let (first, second, held) = open(&server).await;
    let first = Arc::new(first);
    let mut asked = Vec::new();
    for turns in 0..40_u64 {
        let (limits, ask) = (Arc::clone(&first), ask(&limited(&[(TokensPerMonth, limit(10_000))]), 2, 1));
        asked.push(ask.request.clone());
        let call = tokio::spawn(async move { limits.reserve(&ask).await.is_ok() });
        tokio::time::sleep(Duration::from_micros(turns * 20)).await;
        call.abort();
        drop(call.await);
    }
    // What was sent by then is answered before this.
    first.connect().await.unwrap();
    let unknown = first.renew(&held.tenant, &asked).await.unwrap();
    let num_held = u64::try_from(asked.len() - unknown.len()).unwrap();
    let like = ask(&limited(&[(TokensPerMonth, limit(10_000))]), 0, 0);
    assert_eq!(left(&second, &like).await, 10_000 - 80 - 3 * num_held);
}

#[tokio::test]
async fn a_server_that_forgets_by_itself_is_refused() {
    let server = Redis::that_forgets();
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    gateway(&server).connect().await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "100mb"]);
    let refused = gateway(&server).connect().await.unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert_eq!(why, "redis forgets by itself (maxmemory-policy is allkeys-lru); it has to be noeviction");
}

#[tokio::test]
async fn a_server_whose_certificate_nobody_trusts_is_refused() {
    let server = Redis::that_nobody_trusts();
    let refused = gateway(&server).connect().await.unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("certificate"), "{why}");
}

#[tokio::test]
async fn a_server_without_memory_still_lets_go() {
    let server = Redis::that_forgets();
    let (first, _, held) = open(&server).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(is_away(&first, &ask(&budget(), 1, 0)).await);
    first.settle(&held.tenant, &held.request, amounts(4, 0)).await.unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(left(&first, &held).await, 46);
}

#[tokio::test]
async fn a_clock_that_steps_back_counts_no_time_and_one_that_steps_ahead_a_minute() {
    let server = Redis::that_forgets();
    let limits = gateway(&server);
    limits.connect().await.unwrap();
    let any = ask(&budget(), 0, 0);
    // Where the server's clock stood an hour later or earlier when time was last counted.
    for (stood_ms, counted_ms) in [(3_600_000, 0), (-3_600_000, 60_000)] {
        let before = move_clocks(&server, 0, stood_ms);
        assert_eq!(before.len(), 64, "all shards began with the first gateway");
        limits.count(&any.tenant, &[], &[]).await.unwrap();
        let after = move_clocks(&server, 0, 0);
        let moved = after.iter().zip(before).map(|(after, before)| after - before).filter(|moved| *moved > 0);
        let moved: Vec<_> = moved.collect();
        let expected: &[i64] = if counted_ms == 0 { &[] } else { &[counted_ms] };
        assert_eq!(moved, expected, "of the one shard that was asked");
    }
}

#[tokio::test]
async fn all_that_is_stored_has_an_end() {
    let server = Redis::that_forgets();
    let (first, second, _) = open(&server).await;
    let other = ask(&budget(), 5, 0);
    second.reserve(&other).await.unwrap();
    second.settle(&other.tenant, &other.request, amounts(4, 0)).await.unwrap();
    let key = souk_limits::RepeatKey(souk_protocol::Digest::of(b"k"));
    for limits in [&first, &second] {
        let repeats: &dyn souk_limits::Repeats = limits;
        repeats.begin(&other.tenant, key, key.0, &other.request).await.unwrap();
        repeats.end(&other.tenant, key, &other.request, None).await.unwrap();
    }
    for key in server.cli(&["KEYS", "souk:*"]).lines() {
        assert!(server.cli(&["TTL", key]).trim().parse::<i64>().unwrap() > 0, "{key}");
    }
}
