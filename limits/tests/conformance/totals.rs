//! Sums of rows, by version.

use souk_limits::{Ask, ReserveError};
use souk_protocol::Policy::{TokensPerDay, TokensPerMonth};
use souk_protocol::{TenantId, TotalKey};

use crate::support::*;

async fn unknown(store: &Store, ask: &Ask) -> Vec<TotalKey> {
    match store.try_reserve(ask).await {
        Err(ReserveError::TotalsUnknown(keys)) => keys,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_budget_asks_for_its_total_once(store: &Store) {
    let limits: &[_] = &[(TokensPerDay, limit(10)), (TokensPerMonth, limit(10))];
    let tree = tree([(of_tenant(), limits), (of_key("key_a"), &[(TokensPerDay, limit(10))])]);
    let first = ask(&tree, 1, 0);
    let expected = [
        total_key(&of_tenant(), TokensPerDay, AT_MS),
        total_key(&of_tenant(), TokensPerMonth, AT_MS),
        total_key(&of_key("key_a"), TokensPerDay, AT_MS),
    ];
    assert_eq!(unknown(store, &first).await, expected);
    store.knows(&first, 0, 0).await;
    assert_eq!(store.reserve(&first).await.standings.len(), 3);
    let tomorrow = Ask { at_ms: AT_MS + 86_400_000, ..ask(&tree, 1, 0) };
    assert_eq!(unknown(store, &tomorrow).await.len(), 2, "the month is the same");
}

pub(crate) async fn an_older_total_changes_nothing(store: &Store) {
    let tree = limited(&[(TokensPerMonth, limit(100))]);
    let any = ask(&tree, 0, 0);
    store.knows(&any, 40, 4).await;
    store.knows(&any, 30, 3).await;
    store.knows(&any, 0, 0).await;
    assert_eq!(store.left(&any).await, [60]);
    store.knows(&any, 50, 5).await;
    assert_eq!(store.left(&any).await, [50]);
}

pub(crate) async fn totals_of_two_gateways_may_come_out_of_order(store: &Store) {
    let tree = limited(&[(TokensPerMonth, limit(100))]);
    let (first, second) = (ask(&tree, 10, 0), ask(&tree, 20, 0));
    store.knows(&first, 0, 0).await;
    for ask in [&first, &second] {
        store.reserve(ask).await;
        store.settle(ask, ask.amounts.input_tokens, 0).await;
    }
    // The first's row was written before the second's, and its gateway says so later.
    store.count(&second.tenant, &totals(&second, 30, 2), &[&second]).await;
    assert_eq!(store.left(&first).await, [60], "the first counts twice for a moment, and never not at all");
    store.count(&first.tenant, &totals(&first, 10, 1), &[&first]).await;
    assert_eq!(store.left(&first).await, [70]);
}

pub(crate) async fn a_total_that_comes_with_a_write_is_not_one_that_was_read(store: &Store) {
    let tree = limited(&[(TokensPerMonth, limit(100))]);
    let (written, next) = (ask(&limited(&[]), 10, 0), ask(&tree, 1, 0));
    store.reserve(&written).await;
    store.settle(&written, 10, 0).await;
    store.count(&written.tenant, &totals(&written, 10, 3), &[&written]).await;
    assert_eq!(unknown(store, &next).await.len(), 1);
    // What is read meanwhile may be older than what came with the write, and then that is what counts.
    store.knows(&next, 4, 2).await;
    assert_eq!(store.left(&next).await, [90]);
}

pub(crate) async fn counting_twice_is_counting_once(store: &Store) {
    let tree = limited(&[(TokensPerMonth, limit(100))]);
    let (first, second) = (ask(&tree, 10, 0), ask(&tree, 20, 0));
    store.knows(&first, 0, 0).await;
    store.reserve(&first).await;
    store.reserve(&second).await;
    store.settle(&first, 7, 0).await;
    for _ in 0..2 {
        store.count(&first.tenant, &totals(&first, 7, 1), &[&first]).await;
        assert_eq!(store.left(&first).await, [73]);
    }
}

pub(crate) async fn an_unknown_budget_in_shadow_mode_refuses_nothing(store: &Store) {
    let tree = limited(&[(TokensPerDay, shadow(5)), (TokensPerMonth, shadow(5))]);
    let first = ask(&tree, 6, 0);
    let reserved = store.reserve(&first).await;
    let keys = [TokensPerDay, TokensPerMonth].map(|policy| total_key(&of_tenant(), policy, AT_MS));
    assert_eq!((reserved.standings, reserved.shadowed, reserved.unknown), (vec![], vec![], keys.to_vec()));
    store.knows(&first, 0, 0).await;
    let reserved = store.reserve(&ask(&tree, 1, 0)).await;
    assert_eq!((reserved.shadowed.len(), reserved.unknown), (2, vec![]));
}

pub(crate) async fn a_request_of_another_tenant_is_not_let_go(store: &Store) {
    let tree = limited(&[(TokensPerMonth, limit(100))]);
    let first = ask(&tree, 10, 0);
    store.knows(&first, 0, 0).await;
    store.reserve(&first).await;
    let other = Ask { tenant: TenantId::from_stored("ten_b"), ..first.clone() };
    store.settle(&other, 0, 0).await;
    store.count(&other.tenant, &[], &[&other]).await;
    assert_eq!(store.renew(&other).await, std::slice::from_ref(&first.request));
    assert_eq!(store.left(&first).await, [90]);
}
