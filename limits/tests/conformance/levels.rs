//! Trees: all levels or none.

use souk_protocol::Policy::{InputTokensPerMinute, RequestsPerMinute, TokensPerDay, TokensPerMonth};

use crate::support::*;

pub(crate) async fn one_reserve_takes_at_all_levels_or_at_none(store: &Store) {
    let of_all: &[_] = &[(InputTokensPerMinute, limit(4)), (TokensPerMonth, limit(100))];
    let tree = tree([(of_tenant(), of_all), (of_team(), &[]), (of_key("key_a"), &[(TokensPerDay, limit(3))])]);
    let first = ask(&tree, 4, 0);
    store.knows(&first, 0, 0).await;
    store.pass(MINUTE).await;
    assert_eq!(store.left(&first).await, [4, 100, 3]);
    assert_eq!(names(&store.refused(&first).await), [("key", TokensPerDay)]);
    assert_eq!(store.left(&first).await, [4, 100, 3], "nothing was taken anywhere");
    store.reserve(&ask(&tree, 3, 0)).await;
    assert_eq!(store.left(&first).await, [1, 97, 0]);
}

pub(crate) async fn violations_are_told_broadest_first(store: &Store) {
    let both: &[_] = &[(RequestsPerMinute, limit(1)), (TokensPerMonth, limit(5))];
    let tree = tree([
        (of_tenant(), both),
        (of_team(), &[(TokensPerMonth, limit(50))]),
        (of_member("per_a"), both),
        (of_key("key_a"), both),
    ]);
    let first = ask(&tree, 5, 0);
    store.knows(&first, 0, 0).await;
    store.pass(MINUTE).await;
    store.reserve(&first).await;
    let refused = store.refused(&ask(&tree, 1, 0)).await;
    let expected = ["tenant", "member", "key"].map(|level| [(level, RequestsPerMinute), (level, TokensPerMonth)]);
    assert_eq!(names(&refused), expected.concat());
}

pub(crate) async fn members_of_a_tenant_have_budgets_of_their_own(store: &Store) {
    let of = |name| {
        let limits: &[_] = &[(TokensPerDay, limit(10))];
        tree([(of_tenant(), &[(TokensPerDay, limit(15))]), (of_member(name), limits)])
    };
    let (first, second) = (ask(&of("per_a"), 10, 0), ask(&of("per_b"), 6, 0));
    store.knows(&first, 0, 0).await;
    store.knows(&second, 0, 0).await;
    store.reserve(&first).await;
    assert_eq!(names(&store.refused(&second).await), [("tenant", TokensPerDay)]);
    assert_eq!(store.left(&second).await, [5, 10]);
    assert_eq!(names(&store.refused(&ask(&of("per_a"), 1, 0)).await), [("member", TokensPerDay)]);
}

pub(crate) async fn standings_are_told_broadest_first_with_what_is_left(store: &Store) {
    let tree = tree([
        (of_tenant(), &[(RequestsPerMinute, limit(3)), (TokensPerDay, limit(20))]),
        (of_member("per_a"), &[]),
        (of_key("key_a"), &[(InputTokensPerMinute, limit(5))]),
    ]);
    let first = ask(&tree, 2, 3);
    store.knows(&first, 1, 1).await;
    store.pass(MINUTE).await;
    let told: Vec<_> = store
        .reserve(&first)
        .await
        .standings
        .into_iter()
        .map(|standing| (standing.subject, standing.policy, standing.limit, standing.remaining))
        .collect();
    let expected = [
        (of_tenant(), RequestsPerMinute, 3, 2),
        (of_tenant(), TokensPerDay, 20, 14),
        (of_key("key_a"), InputTokensPerMinute, 5, 3),
    ];
    assert_eq!(told, expected);
}
