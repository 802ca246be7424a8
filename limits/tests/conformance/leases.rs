//! What is held, until when, and what a store is told again.

use souk_limits::port::LEASE;
use souk_limits::{Ask, Held};
use souk_protocol::Policy::{InputTokensPerMinute, RequestsPerMinute, TokensPerMonth};

use crate::support::*;

/// One request under a bucket and a budget, which is reserved.
async fn reserved(store: &Store) -> Ask {
    let tree = limited(&[(InputTokensPerMinute, limit(12)), (TokensPerMonth, limit(100))]);
    let first = ask(&tree, 12, 8);
    store.knows(&first, 0, 0).await;
    store.pass(MINUTE).await;
    store.reserve(&first).await;
    assert_eq!(store.left(&first).await, [0, 80]);
    first
}

pub(crate) async fn a_lapsed_request_gives_back_budgets_and_no_buckets(store: &Store) {
    let first = reserved(store).await;
    store.pass(LEASE - SLACK).await;
    assert_eq!(store.left(&first).await, [1, 80]);
    store.pass(SLACK).await;
    assert_eq!(store.left(&first).await, [3, 100], "the bucket has what it refilled");
    store.settle(&first, 1, 0).await;
    assert_eq!(store.left(&first).await, [3, 100], "it is too late");
    assert_eq!(store.renew(&first).await, [first.request]);
}

pub(crate) async fn a_renewed_request_is_held(store: &Store) {
    let first = reserved(store).await;
    for _ in 0..12 {
        store.pass(LEASE / 3).await;
        assert_eq!(store.renew(&first).await, []);
    }
    assert_eq!(store.left(&first).await[1], 80);
    store.pass(LEASE).await;
    assert_eq!(store.left(&first).await[1], 100);
}

pub(crate) async fn what_is_settled_stays_until_a_total_counts_it(store: &Store) {
    let first = reserved(store).await;
    store.settle(&first, 10, 5).await;
    for _ in 0..20 {
        store.pass(MINUTE).await;
        assert_eq!(store.left(&first).await[1], 85);
    }
    assert_eq!(store.renew(&first).await, [], "it is known");
    store.count(&first.tenant, &totals(&first, 15, 1), &[&first]).await;
    assert_eq!(store.left(&first).await[1], 85);
    assert_eq!(store.renew(&first).await, std::slice::from_ref(&first.request));
}

pub(crate) async fn what_is_not_known_is_said_and_can_be_restored(store: &Store) {
    let first = reserved(store).await;
    let tree = &first.tree;
    let (running, settled) = (ask(tree, 20, 10), ask(tree, 3, 2));
    let requests = [&running, &first, &settled].map(|ask| ask.request.clone());
    let unknown = store.limits.renew(&first.tenant, &requests).await.unwrap();
    assert_eq!(unknown, [running.request.clone(), settled.request.clone()]);
    let held = [(&running, false), (&settled, true)];
    let held = held.map(|(ask, is_settled)| Held { ask: ask.clone(), is_settled });
    store.limits.restore(&held).await.unwrap();
    assert_eq!(store.limits.renew(&first.tenant, &requests).await.unwrap(), []);
    assert_eq!(store.left(&first).await, [0, 45]);
    store.pass(LEASE).await;
    assert_eq!(store.left(&first).await[1], 95, "what was settled has no lease");
    store.count(&first.tenant, &totals(&settled, 5, 1), &[&settled]).await;
    assert_eq!(store.left(&first).await[1], 95);
}

pub(crate) async fn what_is_restored_refuses_nothing_and_takes_nothing_from_buckets(store: &Store) {
    let first = reserved(store).await;
    let more = ask(&first.tree, 90, 0);
    store.limits.restore(&[Held { ask: more.clone(), is_settled: false }]).await.unwrap();
    assert_eq!(store.left(&first).await, [0, 0]);
    let refused = store.refused(&ask(&limited(&[(TokensPerMonth, limit(100))]), 1, 0)).await;
    assert_eq!(refused[0].held, 110);
    store.settle(&more, 0, 0).await;
    assert_eq!(store.left(&first).await, [0, 80], "nor does it give anything back to them");
}

pub(crate) async fn what_is_known_is_not_restored(store: &Store) {
    let first = reserved(store).await;
    store.settle(&first, 10, 0).await;
    for is_settled in [false, true] {
        store.limits.restore(&[Held { ask: first.clone(), is_settled }]).await.unwrap();
        assert_eq!(store.left(&first).await, [2, 90]);
    }
    let free = ask(&first.tree, 0, 0);
    store.limits.restore(&[Held { ask: free.clone(), is_settled: true }]).await.unwrap();
    assert_eq!(store.renew(&free).await, [free.request], "nothing is held of what cost nothing");
}

pub(crate) async fn reserving_twice_takes_once(store: &Store) {
    let tree =
        limited(&[(RequestsPerMinute, limit(5)), (InputTokensPerMinute, shadow(1)), (TokensPerMonth, limit(100))]);
    let first = ask(&tree, 10, 0);
    store.knows(&first, 0, 0).await;
    store.pass(MINUTE).await;
    let reserved = store.reserve(&first).await;
    assert_eq!(names(&reserved.shadowed), [("tenant", InputTokensPerMinute)]);
    let again = store.reserve(&first).await;
    assert_eq!(again.shadowed, reserved.shadowed, "it is told the same");
    assert_eq!(store.left(&first).await, [4, 1, 90]);
    store.settle(&first, 4, 0).await;
    store.reserve(&first).await;
    assert_eq!(store.left(&first).await, [4, 1, 96], "and after it was settled, too");
}

pub(crate) async fn settling_twice_or_the_unknown_has_no_effect(store: &Store) {
    let first = reserved(store).await;
    store.settle(&ask(&first.tree, 5, 5), 1, 1).await;
    store.settle(&first, 6, 2).await;
    assert_eq!(store.left(&first).await, [6, 92]);
    store.settle(&first, 0, 0).await;
    assert_eq!(store.left(&first).await, [6, 92]);
}

pub(crate) async fn more_than_was_reserved_counts_as_what_was_reserved(store: &Store) {
    let first = reserved(store).await;
    store.settle(&first, 13, 80).await;
    assert_eq!(store.left(&first).await, [0, 80]);
}

pub(crate) async fn a_request_that_used_nothing_is_let_go_at_once(store: &Store) {
    let first = reserved(store).await;
    let other = ask(&limited(&[]), 5, 0);
    store.reserve(&other).await;
    store.settle(&first, 0, 0).await;
    assert_eq!(store.left(&first).await, [12, 95], "what others hold is held");
    assert_eq!(store.renew(&first).await, [first.request], "no total will count it");
}
