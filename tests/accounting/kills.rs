//! A server that is killed at random moments while clients ask, stream, leave and repeat. After the last start every request that
//! was queued has its rows once, what clients were told they used is what is charged, and nothing is held.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::DatabaseConnection;
use souk_testkit::Random;

use crate::calls::{End, Seen, ask, question};
use crate::rows::{Row, open, requests, totals, until_settled};
use crate::stack::Stack;

/// Says how often the server is killed.
const KILLS: &str = "SOUK_KILLS";
/// Says which random numbers are drawn; each run says its own.
const SEED: &str = "SOUK_KILLS_SEED";
const CLIENTS: u64 = 4;
/// The longest time from the first request to the kill, in milliseconds.
const LONGEST_MS: u64 = 400;
/// What the tenant may use in a month: refused in the end, where there are many kills.
const BUDGET: i64 = 60_000;

#[expect(clippy::disallowed_methods, reason = "how long tests run is no setting of the server")]
fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// What clients saw, and under which keys.
type Log = Arc<Mutex<Vec<(Option<String>, Seen)>>>;

/// One client, until its server is gone.
async fn client(number: u64, round: u64, stack: (reqwest::Client, String), log: Log, stop: Arc<AtomicBool>) {
    let (http, url) = stack;
    let mut random = Random::new(round * CLIENTS + number);
    let mut sent = 0;
    while !stop.load(Ordering::Acquire) {
        sent += 1;
        let body = question(1 + random.below(8), 1 + random.below(2), random.below(2) == 0);
        let key = (random.below(3) == 0).then(|| format!("{round}-{number}-{sent}"));
        let asking = ask(&http, &url, &body, key.as_deref());
        let seen = if random.below(5) == 0 {
            // Leaves before its answer is whole.
            let patience = Duration::from_millis(random.below(30));
            tokio::time::timeout(patience, asking).await.unwrap_or(Seen { request: None, end: End::Broken })
        } else {
            asking.await
        };
        let is_gone = seen.end == End::Broken && seen.request.is_none();
        log.lock().unwrap().push((key, seen));
        if is_gone {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_kill_loses_or_doubles_what_was_used_or_leaves_anything_held() {
    let num_kills = number_in(KILLS).unwrap_or(100);
    let seed = number_in(SEED).unwrap_or_else(|| u64::from(std::process::id()));
    println!("SOUK_KILLS_SEED={seed}");
    let mut random = Random::new(seed);
    let budget = BUDGET.to_string();
    let mut stack = Stack::start_with(&[("SOUK_LIMITS__TOKENS_PER_MONTH", &budget), ("SOUK_LOG__FILTER", "warn")]);
    let log = Log::default();
    for round in 0..num_kills {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|number| {
            let server = (stack.http(), stack.url.clone());
            tokio::spawn(client(number, seed.wrapping_add(round), server, Arc::clone(&log), Arc::clone(&stop)))
        });
        let clients: Vec<_> = clients.collect();
        tokio::time::sleep(Duration::from_millis(random.below(LONGEST_MS))).await;
        stack.kill();
        stop.store(true, Ordering::Release);
        for client in clients {
            client.await.unwrap();
        }
        stack.restart();
    }
    until_settled(&stack).await;
    let db = open(&stack.data_dir()).await;
    check_engines_count(&stack, &db, seed, &log).await;
    let rows = requests(&db).await;
    let log = std::mem::take(&mut *log.lock().unwrap());
    let num_lost = check_what_was_told(&log, &rows);
    // One client has one request whose answer it has and whose end was not written down.
    assert!(num_lost <= num_kills * CLIENTS, "{num_lost} answers were free");
    check_repeats(&rows);
    let charged: i64 = rows.values().map(|row| row.charged.0 + row.charged.1).sum();
    let sums = totals(&db, "tenant").await;
    assert_eq!(sums.values().sum::<i64>(), charged, "the total is the sum of the rows");
    assert!(charged <= BUDGET, "{charged}");
    let key_sums = totals(&db, "key").await;
    assert_eq!(key_sums.values().sum::<i64>(), charged);
    println!(
        "{num_kills} kills, {} requests, {} rows, {charged} tokens, {num_lost} answers free",
        log.len(),
        rows.len()
    );
    assert!(rows.values().any(|row| row.charged != (0, 0)), "something was used between two kills");
}

/// Without a kill the rows of what was asked have all that the engine says it has computed.
async fn check_engines_count(stack: &Stack, db: &DatabaseConnection, seed: u64, log: &Log) {
    let before = requests(db).await;
    let generated = async || stack.metric("souk_engine_generated_tokens_total").await;
    let generated_before = generated().await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|number| {
        let server = (stack.http(), stack.url.clone());
        tokio::spawn(client(number, seed.wrapping_sub(1), server, Arc::clone(log), Arc::clone(&stop)))
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    until_settled(stack).await;
    let rows = requests(db).await;
    let new = rows.values().filter(|row| !before.contains_key(&row.request));
    let computed: i64 = new.flat_map(|row| &row.jobs).map(|(_, computed, _)| computed).sum();
    assert_eq!(computed as f64, generated().await - generated_before, "what the engine says itself");
}

/// Each answer that was told in full has its rows, with what it said; or they are free, where the kill came before its end was
/// written down. Answers how many.
fn check_what_was_told(log: &[(Option<String>, Seen)], rows: &BTreeMap<String, Row>) -> u64 {
    let mut num_lost = 0;
    for (key, seen) in log {
        let Some(request) = &seen.request else { continue };
        match &seen.end {
            End::Answered(input, output) => {
                let row = rows.get(request).unwrap_or_else(|| panic!("{request} has no rows: {seen:?}"));
                if row.is_lost() {
                    num_lost += 1;
                } else {
                    assert_eq!(row.charged, (*input, *output), "{request} {key:?}");
                }
            }
            End::Replayed => assert!(rows.contains_key(request), "{request} was charged"),
            End::Refused(status, code) => {
                assert!([429, 503, 409, 400].contains(status), "{request}: {status} {code}");
                if *status == 429 {
                    assert!(!rows.contains_key(request), "{request} was refused");
                }
            }
            End::Broken => {
                for (outcome, computed, (_, output)) in rows.get(request).into_iter().flat_map(|row| &row.jobs) {
                    assert!(output <= computed, "{request}: {outcome} {computed} {output}");
                }
            }
        }
    }
    num_lost
}

/// Of the requests of one key at most one is charged.
fn check_repeats(rows: &BTreeMap<String, Row>) {
    let mut charged: BTreeMap<&str, &str> = BTreeMap::new();
    for row in rows.values().filter(|row| row.charged != (0, 0)) {
        if let Some(repeat) = &row.repeat {
            let other = charged.insert(repeat, &row.request);
            assert_eq!(other, None, "{} is charged, too", row.request);
        }
    }
}
