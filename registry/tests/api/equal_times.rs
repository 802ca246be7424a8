//! What is hidden from a caller costs what costs that which is not there: the same queries, and so the same time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::json;
use souk_protocol::{AdapterRef, Principal};
use souk_registry::{FolderStore, Registry, open_database};

use crate::support::{Stack, User, bases, config_in};

/// Below an adapter.
const PATHS: [&str; 6] =
    ["", "/versions", "/versions/1.0.0", "/versions/1.0.0/files/adapter_config.json", "/tags", "/tags/prod"];
/// Of adapters of acme that rival must not know; the third was shared with another.
const HIDDEN: [&str; 2] = ["secret", "shared"];
const ABSENT: &str = "absent";

/// The statements that were sent to the database.
type Statements = Arc<Mutex<Vec<String>>>;

/// A registry that notes what it asks its database.
async fn noting() -> (Stack, Statements) {
    let statements = Statements::default();
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let mut config = config_in(folder.path());
    // The registry's own work is not what is compared.
    let settings = &mut config.settings;
    settings.collect_every = Duration::from_secs(3600);
    settings.publish_heads_every = Duration::from_secs(3600);
    settings.webhooks.look_every = Duration::from_secs(3600);
    let mut pools = open_database(&config).await.unwrap();
    for pool in [&mut pools.own, &mut pools.tenants] {
        let noted = statements.clone();
        pool.set_metric_callback(move |info| {
            let sql = &info.statement.sql;
            if !is_watch(sql) {
                noted.lock().unwrap().push(sql.clone());
            }
        });
    }
    let store = FolderStore::open(folder.path().join("objects")).await.unwrap();
    let registry = Registry::open(config, pools, Arc::new(store), bases()).await.unwrap();
    (Stack::serve(registry, folder).await, statements)
}

/// Whether it looks for what other registries withdraw: that goes on beside the requests, and none of them reads there.
fn is_watch(sql: &str) -> bool {
    sql.starts_with("SELECT ") && sql.contains(" FROM \"withdrawals\" WHERE \"withdrawals\".\"id\" > ")
}

/// A tenant that sees nothing of acme's.
async fn rival(stack: &Stack) -> User {
    let (acme, rival) = (stack.tenant("acme").await, stack.tenant("rival").await);
    stack.tenant("friend").await;
    acme.make_adapter("secret", "private").await;
    acme.make_adapter("shared", "shared").await;
    for (name, seed) in HIDDEN.into_iter().zip([1, 2]) {
        acme.publish(&format!("acme/{name}"), "1.0.0", seed).await;
        let tag = acme.put(&format!("/adapters/acme/{name}/tags/prod"), json!({ "version": "1.0.0" })).await;
        assert_eq!(tag.status(), StatusCode::OK);
    }
    let decider = stack.key_for("acme", &["access:decide"]).await;
    let granted = decider.put("/adapters/acme/shared/grants/friend", json!({})).await;
    assert_eq!(granted.status(), StatusCode::OK);
    rival
}

async fn get(user: &User, name: &str, path: &str) {
    let answer = user.get(&format!("/adapters/acme/{name}{path}")).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{name}{path}");
    answer.bytes().await.unwrap();
}

async fn resolve(stack: &Stack, principal: &Principal, name: &str) {
    let reference: AdapterRef = format!("acme/{name}@1.0.0").parse().unwrap();
    stack.registry.resolve(principal, &reference).await.unwrap_err();
}

#[tokio::test]
async fn what_is_hidden_takes_the_same_queries_as_what_is_not_there() {
    let (stack, statements) = noting().await;
    let rival = rival(&stack).await;
    let principal = stack.principal(&rival).await;
    // The first use of a key is noted beside the request.
    get(&rival, ABSENT, "").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let taken = || std::mem::take(&mut *statements.lock().unwrap());
    taken();
    for path in PATHS {
        get(&rival, ABSENT, path).await;
        let absent = taken();
        assert!(absent.iter().any(|statement| statement.contains("adapters")), "{path}: {absent:?}");
        for name in HIDDEN {
            get(&rival, name, path).await;
            assert_eq!(taken(), absent, "{name}{path}");
        }
    }
    resolve(&stack, &principal, ABSENT).await;
    let absent = taken();
    assert_eq!(absent.len(), 1, "{absent:?}");
    for name in HIDDEN {
        resolve(&stack, &principal, name).await;
        assert_eq!(taken(), absent, "{name}");
    }
}

/// `cargo nextest run --run-ignored only -E 'test(medians_of_a_thousand_pairs)' --no-capture`
#[tokio::test]
#[ignore = "a measurement, which prints a table"]
async fn medians_of_a_thousand_pairs_of_what_is_absent_and_what_is_hidden() {
    let stack = Stack::start().await;
    let rival = rival(&stack).await;
    let principal = stack.principal(&rival).await;
    println!("| microseconds, median of 1,000 | absent | private | shared with another | farthest apart |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let names = [ABSENT, HIDDEN[0], HIDDEN[1]];
    for path in PATHS.into_iter().map(Some).chain([None]) {
        let mut times = [const { Vec::new() }; 3];
        for round in 0..1050 {
            for step in 0..3 {
                // Each comes first as often as the others.
                let which = (round + step) % 3;
                let began = Instant::now();
                match path {
                    Some(path) => get(&rival, names[which], path).await,
                    None => resolve(&stack, &principal, names[which]).await,
                }
                if round >= 50 {
                    times[which].push(began.elapsed());
                }
            }
        }
        let medians = times.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1e6
        });
        let apart = medians[1..].iter().map(|hidden| (hidden / medians[0] - 1.0) * 100.0);
        let farthest = apart.max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap();
        let what = path.map_or_else(|| "resolve".to_owned(), |path| format!("GET /adapters/acme/x{path}"));
        println!("| {what} | {:.0} | {:.0} | {:.0} | {farthest:+.1} % |", medians[0], medians[1], medians[2]);
    }
}
