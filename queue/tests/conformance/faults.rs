//! What may happen to Redis and on the way to it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use souk_protocol::{Digest, Outcome, PoolId};
use souk_queue::{Claim, JobQueue, NodeOrder, OrderNumber, QueueConfig, QueueError, RedisQueue, Submission, Submitted};
use souk_redis::RedisSettings;
use souk_testkit::redis::{Cluster, Redis};

use crate::support::*;

/// So short that a server that stalls is noticed in the time of a test.
const TIMEOUT: Duration = Duration::from_millis(300);

fn impatient(url: String) -> RedisSettings {
    RedisSettings { connect_timeout: TIMEOUT * 10, response_timeout: TIMEOUT, ..RedisSettings::at(url) }
}

/// A lease that outlives what the tests do.
fn patient() -> QueueConfig {
    QueueConfig { lease: LEASE * 10, ..config() }
}

/// Two processes at one server.
fn two(server: &Redis) -> [RedisQueue; 2] {
    [(); 2].map(|()| RedisQueue::new(&impatient(server.url()), patient()).unwrap())
}

fn is_away<T: std::fmt::Debug>(result: &Result<T, QueueError>) -> bool {
    matches!(result, Err(QueueError::Unavailable(_)))
}

async fn claim_one_of(queue: &RedisQueue) -> souk_queue::Delivery {
    queue.claim(wish("n", 1, 0)).await.unwrap().pop().expect("a job waits")
}

/// What was asked for once the server is back: whoever failed to connect a moment ago does not try at once.
async fn when_back<T>(ask: impl AsyncFn() -> Result<T, QueueError>) -> T {
    for _ in 0..100 {
        match ask().await {
            Ok(answer) => return answer,
            Err(QueueError::Unavailable(_)) => tokio::time::sleep(TIMEOUT / 5).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the server does not come back")
}

#[tokio::test]
async fn a_server_that_is_killed_and_keeps_its_data_goes_on_where_it_was() {
    let mut server = Redis::that_keeps_its_data();
    let [gateway_side, node_side] = two(&server);
    for _ in 0..3 {
        gateway_side.submit(job("a", 10)).await.unwrap();
    }
    let (first, second) = (claim_one_of(&node_side).await, claim_one_of(&node_side).await);
    node_side.settle(pool(), &first.lease, over(&first, Outcome::Stop, 4)).await.unwrap();
    server.kill();
    assert!(is_away(&gateway_side.submit(job("a", 10)).await));
    assert!(is_away(&node_side.wait(&wish("n", 1, 0), SOON).await), "who waits hears of it");
    server.start();
    let progress = souk_queue::LeaseProgress { lease: second.lease.clone(), output_tokens: 3 };
    let lost = when_back(async || node_side.renew(pool(), std::slice::from_ref(&progress)).await).await;
    assert_eq!(lost, []);
    node_side.settle(pool(), &second.lease, over(&second, Outcome::Stop, 5)).await.unwrap();
    let third = claim_one_of(&node_side).await;
    node_side.settle(pool(), &third.lease, over(&third, Outcome::Stop, 6)).await.unwrap();
    let told = when_back(async || gateway_side.next_notices(pool(), &gateway(), SOON).await).await;
    let expected = [(first, 4), (second, 5), (third, 6)];
    assert_eq!(told, expected.map(|(delivery, tokens)| settled(&delivery, Outcome::Stop, tokens)));
}

#[tokio::test]
async fn a_server_that_comes_back_without_its_data_is_given_the_jobs_again() {
    let mut server = Redis::that_forgets();
    let [gateway_side, node_side] = two(&server);
    let running = job("a", 10);
    gateway_side.submit(running.clone()).await.unwrap();
    let old = claim_one_of(&node_side).await;
    let before = gateway_side.gateway_heartbeat(pool(), &gateway(), &[]).await.unwrap();
    server.kill();
    server.start();
    let after = when_back(async || gateway_side.gateway_heartbeat(pool(), &gateway(), &[]).await).await;
    assert_ne!(after, before, "the gateway notices");
    let progress = souk_queue::LeaseProgress { lease: old.lease.clone(), output_tokens: 3 };
    let lost = when_back(async || node_side.renew(pool(), std::slice::from_ref(&progress)).await).await;
    assert_eq!(lost, std::slice::from_ref(&old.lease), "the node stops");
    let again = Submission { attempts: old.lease.attempt, ..running };
    let submitted = when_back(async || gateway_side.submit(again.clone()).await).await;
    assert_eq!(submitted, Submitted::Queued);
    assert!(
        matches!(gateway_side.submit(again).await, Ok(Submitted::Already(_))),
        "another gateway's word has no effect"
    );
    let new = claim_one_of(&node_side).await;
    assert_eq!(new.lease.attempt, old.lease.attempt + 1);
    assert!(is_lease_lost(&node_side.settle(pool(), &old.lease, over(&old, Outcome::Stop, 9)).await));
    node_side.settle(pool(), &new.lease, over(&new, Outcome::Stop, 7)).await.unwrap();
    let told = gateway_side.next_notices(pool(), &gateway(), SOON).await.unwrap();
    assert_eq!(told, [settled(&new, Outcome::Stop, 7)]);
}

#[tokio::test]
async fn a_server_that_stalls_is_away_and_leases_outlive_it() {
    let server = Redis::that_forgets();
    let [gateway_side, node_side] = two(&server);
    gateway_side.submit(job("a", 10)).await.unwrap();
    let delivery = claim_one_of(&node_side).await;
    let late = job("a", 10);
    server.stall();
    assert!(is_away(&gateway_side.submit(late.clone()).await));
    assert!(is_away(&node_side.settle(pool(), &delivery.lease, over(&delivery, Outcome::Stop, 4)).await));
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.go_on();
    // Both were carried out after all, once.
    let submitted = when_back(async || gateway_side.submit(late.clone()).await).await;
    let settled_again = when_back(async || {
        let settlement = over(&delivery, Outcome::Stop, 4);
        match node_side.settle(pool(), &delivery.lease, settlement).await {
            Err(QueueError::LeaseLost { .. }) => Ok(false),
            other => other.map(|()| true),
        }
    });
    assert!(matches!(submitted, Submitted::Already(_) | Submitted::Queued), "{submitted:?}");
    settled_again.await;
    let told = gateway_side.next_notices(pool(), &gateway(), SOON).await.unwrap();
    assert_eq!(told, [settled(&delivery, Outcome::Stop, 4)]);
    let stats = gateway_side.stats(pool()).await.unwrap();
    assert_eq!((stats.queued, stats.running), (1, 0));
}

#[tokio::test]
async fn a_server_that_somebody_empties_has_its_functions_again_and_rings() {
    let server = Redis::that_forgets();
    let [gateway_side, node_side] = two(&server);
    let node_side = Arc::new(node_side);
    gateway_side.submit(job("a", 10)).await.unwrap();
    claim_one_of(&node_side).await;
    assert!(!node_side.wait(&wish("n", 1, 0), TIMEOUT).await.unwrap());
    server.cli(&["FLUSHALL"]);
    server.cli(&["FUNCTION", "FLUSH"]);
    let waiter = {
        let node_side = Arc::clone(&node_side);
        tokio::spawn(async move { node_side.wait(&wish("n", 1, 0), SOON).await })
    };
    tokio::time::sleep(TIMEOUT).await;
    gateway_side.submit(job("a", 10)).await.unwrap();
    assert!(waiter.await.unwrap().unwrap());
}

#[tokio::test]
async fn a_connection_that_is_cut_under_a_waiting_call_is_made_again() {
    let server = Redis::that_forgets();
    let [gateway_side, node_side] = two(&server);
    for _ in 0..3 {
        let wish_of_one = wish("n", 1, 0);
        // Whoever asks first may hear of it, and asks again.
        let waiting = when_back(async || node_side.wait(&wish_of_one, SOON).await);
        let cut = async {
            tokio::time::sleep(TIMEOUT / 3).await;
            server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
            let job = job("a", 10);
            when_back(async || gateway_side.submit(job.clone()).await).await;
        };
        let (hears, ()) = tokio::join!(waiting, cut);
        assert!(hears);
        when_back(async || node_side.claim(wish("n", 1, 0)).await).await;
    }
}

#[tokio::test]
async fn a_waiting_call_that_is_dropped_loses_nothing() {
    let server = Redis::that_forgets();
    let [gateway_side, node_side] = two(&server);
    let mut told = HashSet::new();
    for turn in 0..30_u64 {
        gateway_side.submit(job("a", 10)).await.unwrap();
        let delivery = claim_one_of(&node_side).await;
        node_side.settle(pool(), &delivery.lease, over(&delivery, Outcome::Stop, 1)).await.unwrap();
        let gateway = gateway();
        let call = gateway_side.next_notices(pool(), &gateway, SOON);
        if let Ok(notices) = tokio::time::timeout(Duration::from_micros(turn * 30), call).await {
            told.extend(notices.unwrap().into_iter().map(|notice| notice.job));
        }
    }
    for notice in gateway_side.next_notices(pool(), &gateway(), TIMEOUT).await.unwrap() {
        assert!(told.insert(notice.job), "told once");
    }
    assert_eq!(told.len(), 30);
}

#[tokio::test]
async fn processes_of_two_versions_share_a_pool() {
    let server = Redis::that_forgets();
    let [gateway_side, node_side] = two(&server);
    gateway_side.submit(job("a", 10)).await.unwrap();
    let other = souk_queue::redis::LIBRARY.replace("souk_queue_1", "souk_queue_0");
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("FUNCTION").arg("LOAD").arg(other).query::<String>(&mut connection).unwrap();
    let key = server.cli(&["KEYS", "souk:*:state"]);
    let mut stats = redis::cmd("FCALL");
    stats.arg("souk_queue_0_stats").arg(1).arg(key.trim()).arg("60 100 70 30000 2000 600 3 50000 2");
    let (queued, running): (u64, u64) = {
        let said: Vec<redis::Value> = stats.query(&mut connection).unwrap();
        (redis::from_redis_value_ref(&said[0]).unwrap(), redis::from_redis_value_ref(&said[1]).unwrap())
    };
    assert_eq!((queued, running), (1, 0));
    // One that connects later leaves the other's functions where they are.
    let [third, _] = two(&server);
    third.submit(job("a", 10)).await.unwrap();
    stats.query::<redis::Value>(&mut connection).unwrap();
    let delivery = claim_one_of(&node_side).await;
    node_side.settle(pool(), &delivery.lease, over(&delivery, Outcome::Stop, 1)).await.unwrap();
}

#[tokio::test]
async fn the_lag_of_the_backlog_is_the_number_of_jobs_that_wait() {
    let server = Redis::that_forgets();
    let [queue, _] = two(&server);
    let key = format!("souk:{{{}}}:backlog", &souk_queue::redis::tag(pool()));
    let lag = || {
        let about = server.cli(&["XINFO", "GROUPS", &key]);
        let mut lines = about.lines().map(str::trim);
        lines.find(|line| *line == "lag").expect("the group has a lag");
        lines.next().unwrap().parse::<usize>().unwrap()
    };
    let mut held = Vec::new();
    for number in 0..30 {
        let submission = job("a", 10);
        let id = submission.job.id.clone();
        queue.submit(submission).await.unwrap();
        match number % 5 {
            0 => held.push(claim_one_of(&queue).await),
            1 => _ = queue.cancel(pool(), &id).await.unwrap(),
            2 => {
                let delivery = held.pop().unwrap();
                fail_in(&queue, &delivery).await;
            }
            _ => {}
        }
        assert_eq!(lag(), queue.stats(pool()).await.unwrap().queued);
    }
    queue.claim(wish("n", 100, 0)).await.unwrap();
    assert_eq!(lag(), 0);
}

async fn fail_in(queue: &RedisQueue, delivery: &souk_queue::Delivery) {
    let settlement = souk_queue::Settlement::Retry { reason: "no".to_owned() };
    queue.settle(pool(), &delivery.lease, settlement).await.unwrap();
}

/// Sets when the clocks of all pools were last moved on, as if the server's own had been set.
const SET_WALL: &str = r"
for _, key in ipairs(redis.call('KEYS', 'souk:*:state')) do
    local state = redis.call('GET', key)
    local wall = struct.unpack('<d', state, 9)
    redis.call('SET', key, string.sub(state, 1, 8) .. struct.pack('<d', wall + ARGV[1]) .. string.sub(state, 17), 'KEEPTTL')
end";

#[tokio::test]
async fn a_clock_that_is_set_ahead_or_back_ends_no_lease_and_no_deadline() {
    let server = Redis::that_forgets();
    let queue = RedisQueue::new(&settings(server.url()), patient()).unwrap();
    queue.submit(with_deadline(LEASE * 20, job("a", 10))).await.unwrap();
    queue.submit(with_deadline(LEASE * 20, job("a", 10))).await.unwrap();
    let delivery = claim_one_of(&queue).await;
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    for set_ms in [3_600_000_i64, -3_600_000, 86_400_000, -86_400_000] {
        redis::cmd("EVAL").arg(SET_WALL).arg(0).arg(set_ms).query::<redis::Value>(&mut connection).unwrap();
        let progress = souk_queue::LeaseProgress { lease: delivery.lease.clone(), output_tokens: 1 };
        assert_eq!(queue.renew(pool(), &[progress]).await.unwrap(), []);
        assert_eq!(queue.stats(pool()).await.unwrap().queued, 1);
    }
    let left = claim_one_of(&queue).await.job.time_left.unwrap();
    assert!(left <= LEASE * 20 - Duration::from_secs(4), "two steps ahead count for two seconds each: {left:?}");
    assert!(left >= LEASE * 20 - Duration::from_secs(4) - SOON, "{left:?}");
}

#[tokio::test]
async fn all_that_is_stored_has_an_end() {
    let server = Redis::that_forgets();
    let queue = Queue::of_server(Arc::new(Server::new(server)), config());
    heartbeat(&queue, "n1").await;
    queue.gateway_heartbeat(pool(), &gateway(), &[]).await.unwrap();
    queue.order(pool(), NodeOrder::TakeDown(Digest::of(b"bad"))).await.unwrap();
    queue.order(pool(), NodeOrder::Drain(node("n9"))).await.unwrap();
    assert_eq!(queue.next_orders(pool(), OrderNumber(0), SOON).await.unwrap().len(), 2);
    for lane in ["n1", "n2"] {
        let mut submission = in_lane(lane, job("a", 10));
        submission.account = Some(bytes::Bytes::from_static(b"account"));
        submit(&queue, submission).await;
    }
    let delivery = claim_one(&queue, "n1").await;
    finish(&queue, &delivery, 3).await;
    let id = claim_one(&queue, "n2").await.lease.job;
    queue.take_back(pool(), &id, 1, tokens(3)).await.unwrap();
    for name in ["n1", "n2"] {
        fail(&queue, &claim_one(&queue, name).await).await;
    }
    assert_eq!(queue.dead_letters(pool()).await.unwrap().len(), 1);
    submit(&queue, job("b", 10)).await;
    claim_one(&queue, "n1").await;
    // Whatever is older than the last time that keys were told to live on is told so within the hour.
    pass(&queue, Duration::from_secs(1)).await;
    let url = queue.server().redis.lock().unwrap().url();
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    redis::cmd("EVAL").arg(FORGET_KEPT).arg(0).query::<redis::Value>(&mut connection).unwrap();
    queue.stats(pool()).await.unwrap();
    let server = queue.server().redis.lock().unwrap();
    let keys = server.cli(&["KEYS", "souk:*"]);
    assert!(keys.lines().count() > 20, "{keys}");
    for key in keys.lines() {
        assert!(server.cli(&["TTL", key]).trim().parse::<i64>().unwrap() > 0, "{key}");
    }
}

/// Sets back when keys were last told to live on.
const FORGET_KEPT: &str = r"
for _, key in ipairs(redis.call('KEYS', 'souk:*:state')) do
    local state = redis.call('GET', key)
    redis.call('SET', key, string.sub(state, 1, 16) .. struct.pack('<d', 0) .. string.sub(state, 25), 'KEEPTTL')
end";

#[tokio::test]
async fn what_is_over_takes_no_room_once_it_is_forgotten() {
    let queue = Queue::in_redis(config());
    for _ in 0..40 {
        submit(&queue, job("a", 10)).await;
        finish(&queue, &claim_one(&queue, "n").await, 1).await;
    }
    pass(&queue, config().remember_over * 2).await;
    queue.stats(pool()).await.unwrap();
    let server = queue.server().redis.lock().unwrap();
    assert_eq!(server.cli(&["KEYS", "souk:*:j:*"]).trim(), "");
    assert_eq!(server.cli(&["KEYS", "souk:{*}:n:*"]).trim(), "", "nor do notices that nobody takes");
}

#[tokio::test]
async fn a_server_without_memory_still_lets_go() {
    let server = Redis::that_forgets();
    let [queue, _] = two(&server);
    queue.submit(job("a", 10)).await.unwrap();
    let delivery = claim_one_of(&queue).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(is_away(&queue.submit(job("a", 10)).await));
    queue.settle(pool(), &delivery.lease, over(&delivery, Outcome::Stop, 4)).await.unwrap();
    assert_eq!(queue.next_notices(pool(), &gateway(), SOON).await.unwrap().len(), 1);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    queue.submit(job("a", 10)).await.unwrap();
}

#[tokio::test]
async fn a_cluster_has_each_pool_on_one_of_its_servers() {
    let cluster = Cluster::of_three();
    let settings = RedisSettings { cluster: true, ..settings(cluster.servers()[0].url()) };
    let [gateway_side, node_side] = [(); 2].map(|()| Arc::new(RedisQueue::new(&settings, config()).unwrap()));
    let pools: Vec<_> = (0..12).map(|number| PoolId(Digest::of(format!("base {number}").as_bytes()))).collect();
    for pool in &pools {
        let wish = Claim { pool: *pool, ..wish("n", 1, 0) };
        let waiter = {
            let (node_side, wish) = (Arc::clone(&node_side), wish.clone());
            tokio::spawn(async move { node_side.wait(&wish, SOON).await })
        };
        let mut submission = job("a", 10);
        submission.job.pool = *pool;
        gateway_side.submit(submission).await.unwrap();
        assert!(waiter.await.unwrap().unwrap());
        let delivery = node_side.claim(wish).await.unwrap().pop().unwrap();
        node_side.settle(*pool, &delivery.lease, over(&delivery, Outcome::Stop, 2)).await.unwrap();
        let told = gateway_side.next_notices(*pool, &gateway(), SOON).await.unwrap();
        assert_eq!(told, [settled(&delivery, Outcome::Stop, 2)]);
    }
    let with_pools = cluster.servers().iter().filter(|server| !server.cli(&["KEYS", "souk:*"]).trim().is_empty());
    assert_eq!(with_pools.count(), 3, "pools are spread over the servers");
}
