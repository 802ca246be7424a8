//! Several callers at the same moment, on several threads.

use std::sync::Arc;

use souk_limits::ReserveError;
use souk_protocol::Policy;
use souk_protocol::Policy::{RequestsPerMinute, TokensPerDay, TokensPerMonth};

use crate::support::*;

/// Asks from a hundred tasks at once, each with a key of its own; returns how many were let in.
async fn let_in(store: &Arc<Store>, of_tenant_all: (Policy, u64), input_tokens: u64) -> usize {
    let callers = (0..100).map(|number| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let (policy, value) = of_tenant_all;
            let of_all: &[_] = &[(policy, limit(value))];
            let tree = tree([(of_tenant(), of_all), (of_key(&format!("key_{number}")), &[(TokensPerDay, limit(50))])]);
            let ask = ask(&tree, input_tokens, 0);
            store.knows(&ask, 0, 0).await;
            match store.try_reserve(&ask).await {
                Ok(_) => true,
                Err(ReserveError::Refused(violations)) => {
                    assert_eq!(names(&violations), [("tenant", policy)]);
                    false
                }
                Err(other) => panic!("{other:?}"),
            }
        })
    });
    let answers = futures::future::join_all(callers.collect::<Vec<_>>()).await;
    answers.into_iter().filter(|answer| *answer.as_ref().unwrap()).count()
}

async fn the_last_units_go_to_as_many_as_there_are(store: Store) {
    let store = Arc::new(store);
    assert_eq!(let_in(&store, (TokensPerMonth, 100), 7).await, 14);
    // A third comes back in twenty seconds.
    assert_eq!(let_in(&store, (RequestsPerMinute, 3), 0).await, 3);
    assert_eq!(let_in(&store, (TokensPerMonth, 100), 1).await, 2);
}

#[tokio::test(start_paused = true)]
async fn in_memory() {
    let store = Store::in_memory().await;
    store.pass(MINUTE).await;
    the_last_units_go_to_as_many_as_there_are(store).await;
}

/// Budgets alone, since the clock of many threads cannot be paused.
#[test]
fn in_memory_on_eight_threads() {
    let store = Arc::new(Store::of_memory());
    let tree = limited(&[(TokensPerMonth, limit(1000))]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.knows(&ask(&tree, 0, 0), 0, 0));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (store, tree) = (Arc::clone(&store), Arc::clone(&tree));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    let mut num_let_in = 0;
                    for _ in 0..500 {
                        num_let_in += u64::from(store.try_reserve(&ask(&tree, 3, 0)).await.is_ok());
                    }
                    num_let_in
                })
            })
        })
        .collect();
    let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(sum, 333);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[cfg_attr(not(has_redis), ignore = "needs Redis: apt-get install redis-server")]
async fn in_redis() {
    let store = Store::in_redis().await;
    store.pass(MINUTE).await;
    the_last_units_go_to_as_many_as_there_are(store).await;
}
