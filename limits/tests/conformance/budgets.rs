//! Budgets of a day and of a month.

use std::time::Duration;

use souk_limits::port::{HELD_RETRY, LEASE};
use souk_limits::{Amounts, Ask, MAX_BUDGET, MAX_RATE};
use souk_protocol::Policy::{RequestsPerMinute, TokensPerDay, TokensPerMonth, TrainingTokensPerMonth, VersionsPerDay};
use souk_protocol::{Limit, PeriodKey, Total};

use crate::support::*;

/// From the moment of the cases to the end of its day, and of its month.
const DAY_LEFT: Duration = Duration::from_secs(12 * 3600);
const MONTH_LEFT: Duration = Duration::from_secs(36 * 3600);

pub(crate) async fn a_budget_holds_what_is_reserved_and_then_what_was_used(store: &Store) {
    let tree = limited(&[(TokensPerMonth, limit(100))]);
    let first = ask(&tree, 20, 40);
    store.knows(&first, 30, 1).await;
    let reserved = store.reserve(&first).await;
    assert_eq!((reserved.standings[0].remaining, reserved.standings[0].resets_in), (10, MONTH_LEFT));
    let refused = store.refused(&ask(&tree, 5, 6)).await;
    assert_eq!((refused[0].limit, refused[0].used, refused[0].held, refused[0].asked), (100, 30, 60, 11));
    store.settle(&first, 20, 1).await;
    assert_eq!(store.left(&first).await, [49], "what was used is held until it is counted");
    store.count(&first.tenant, &totals(&first, 51, 2), &[&first]).await;
    assert_eq!(store.left(&first).await, [49], "and is not counted twice");
    store.reserve(&ask(&tree, 49, 0)).await;
}

pub(crate) async fn a_day_and_a_month_count_for_themselves(store: &Store) {
    let tree = limited(&[(TokensPerDay, limit(10)), (TokensPerMonth, limit(15))]);
    let first = ask(&tree, 10, 0);
    store.knows(&first, 0, 0).await;
    store.reserve(&first).await;
    assert_eq!(names(&store.refused(&ask(&tree, 1, 0)).await), [("tenant", TokensPerDay)]);
    assert_eq!(names(&store.refused(&ask(&tree, 6, 0)).await), [("tenant", TokensPerDay), ("tenant", TokensPerMonth)]);
    // The next day is the month's last.
    let tomorrow = Ask { at_ms: AT_MS + 86_400_000, ..ask(&tree, 5, 0) };
    store.knows(&tomorrow, 0, 0).await;
    assert_eq!(store.reserve(&tomorrow).await.standings.iter().map(|one| one.remaining).collect::<Vec<_>>(), [5, 0]);
    let next_month = Ask { at_ms: AT_MS + 2 * 86_400_000, ..ask(&tree, 10, 0) };
    store.knows(&next_month, 0, 0).await;
    store.reserve(&next_month).await;
}

pub(crate) async fn a_soft_limit_refuses_nothing(store: &Store) {
    let tree = limited(&[(TokensPerMonth, Limit { soft: Some(5), ..limit(10) })]);
    let first = ask(&tree, 9, 0);
    store.knows(&first, 0, 0).await;
    let reserved = store.reserve(&first).await;
    assert_eq!((reserved.standings[0].remaining, reserved.shadowed.len()), (1, 0));
}

pub(crate) async fn a_budget_in_shadow_mode_tells_and_counts(store: &Store) {
    let tree = limited(&[(TokensPerMonth, shadow(10))]);
    let first = ask(&tree, 4, 4);
    store.knows(&first, 1, 1).await;
    assert_eq!(store.reserve(&first).await.shadowed, []);
    let reserved = store.reserve(&ask(&tree, 3, 0)).await;
    assert_eq!(names(&reserved.shadowed), [("tenant", TokensPerMonth)]);
    assert_eq!((reserved.shadowed[0].used, reserved.shadowed[0].held, reserved.shadowed[0].asked), (1, 8, 3));
    assert_eq!(reserved.standings, [], "no client has to pace itself by it");
    let enforced = limited(&[(TokensPerMonth, limit(13))]);
    assert_eq!(store.left(&ask(&enforced, 0, 0)).await, [1], "what was shadowed is held, since its rows will come");
}

pub(crate) async fn a_budget_of_zero_refuses_what_costs_and_nothing_else(store: &Store) {
    let tree = limited(&[(TokensPerDay, limit(0))]);
    let first = ask(&tree, 1, 0);
    store.knows(&first, 0, 0).await;
    let refused = store.refused(&first).await;
    assert_eq!((refused[0].limit, refused[0].used, refused[0].retry_after), (0, 0, None));
    store.reserve(&ask(&tree, 0, 0)).await;
}

pub(crate) async fn a_call_that_costs_nothing_passes_a_spent_budget_and_one_that_nobody_has_counted(store: &Store) {
    let tree = limited(&[(TokensPerDay, limit(10)), (TokensPerMonth, limit(10))]);
    assert_eq!(store.reserve(&ask(&tree, 0, 0)).await.standings, [], "nothing is known of them");
    let first = ask(&tree, 1, 0);
    store.knows(&first, 12, 1).await;
    store.refused(&first).await;
    let reserved = store.reserve(&ask(&tree, 0, 0)).await;
    assert_eq!(reserved.standings.iter().map(|standing| standing.remaining).collect::<Vec<_>>(), [0, 0]);
}

pub(crate) async fn what_is_missing_decides_when_to_come_back(store: &Store) {
    let tree = limited(&[(TokensPerDay, limit(100)), (TokensPerMonth, limit(200))]);
    let first = ask(&tree, 30, 0);
    store.knows(&first, 60, 1).await;
    store.reserve(&first).await;
    assert_eq!(store.refused(&ask(&tree, 40, 0)).await[0].retry_after, Some(HELD_RETRY), "it is held by what runs");
    assert_eq!(store.refused(&ask(&tree, 41, 0)).await[0].retry_after, Some(DAY_LEFT), "it is used");
    let refused = store.refused(&ask(&tree, 150, 0)).await;
    assert_eq!(refused.iter().map(|one| one.retry_after).collect::<Vec<_>>(), [None, Some(MONTH_LEFT)]);
}

pub(crate) async fn a_limit_lowered_below_what_is_held_takes_nothing_away(store: &Store) {
    let before = limited(&[(TokensPerMonth, limit(100))]);
    let first = ask(&before, 80, 0);
    store.knows(&first, 10, 1).await;
    store.reserve(&first).await;
    let lowered = limited(&[(TokensPerMonth, limit(50))]);
    let refused = store.refused(&ask(&lowered, 1, 0)).await;
    assert_eq!((refused[0].limit, refused[0].used, refused[0].held), (50, 10, 80));
    assert_eq!(store.renew(&first).await, [], "what runs runs on");
    store.settle(&first, 30, 0).await;
    assert_eq!(store.left(&ask(&lowered, 0, 0)).await, [10]);
}

pub(crate) async fn a_limit_that_comes_later_counts_what_is_held(store: &Store) {
    let none = limited(&[]);
    let first = ask(&none, 7, 0);
    store.reserve(&first).await;
    let tree = limited(&[(TokensPerDay, limit(10))]);
    store.knows(&ask(&tree, 0, 0), 1, 1).await;
    assert_eq!(store.left(&ask(&tree, 0, 0)).await, [2]);
}

pub(crate) async fn a_request_counts_in_the_period_that_it_was_admitted_in(store: &Store) {
    let tree = limited(&[(TokensPerDay, limit(10))]);
    let last_ms = AT_MS + u64::try_from(DAY_LEFT.as_millis()).unwrap() - 1;
    let before = Ask { at_ms: last_ms, ..ask(&tree, 6, 0) };
    let after = Ask { at_ms: last_ms + 1, ..ask(&tree, 7, 0) };
    store.knows(&before, 0, 0).await;
    store.knows(&after, 0, 0).await;
    store.reserve(&before).await;
    store.reserve(&after).await;
    // The clock steps back over the end of the day.
    let back = Ask { at_ms: last_ms, ..ask(&tree, 5, 0) };
    let refused = store.refused(&back).await;
    assert_eq!((refused[0].held, refused[0].retry_after), (6, Some(HELD_RETRY)));
    store.settle(&before, 1, 0).await;
    store.reserve(&back).await;
    assert_eq!(store.left(&after).await, [3], "the new day has nothing of it");
    assert_eq!(store.left(&back).await, [4]);
}

pub(crate) async fn training_has_a_budget_of_its_own(store: &Store) {
    let tree = limited(&[(TokensPerMonth, limit(10)), (TrainingTokensPerMonth, limit(10))]);
    let training = Ask { amounts: Amounts { training_tokens: 8, ..Amounts::default() }, ..ask(&tree, 0, 0) };
    let key = total_key(&of_tenant(), TrainingTokensPerMonth, AT_MS);
    store.count(&training.tenant, &[Total { key, amount: 1, version: 1 }], &[]).await;
    store.reserve(&training).await;
    let again = Ask { amounts: Amounts { training_tokens: 2, ..Amounts::default() }, ..ask(&tree, 0, 0) };
    assert_eq!(names(&store.refused(&again).await), [("tenant", TrainingTokensPerMonth)]);
    store.knows(&ask(&tree, 0, 0), 0, 0).await;
    store.reserve(&ask(&tree, 10, 0)).await;
}

pub(crate) async fn versions_are_not_counted_here(store: &Store) {
    let tree = limited(&[(VersionsPerDay, limit(0)), (RequestsPerMinute, limit(1))]);
    store.pass(MINUTE).await;
    let reserved = store.reserve(&ask(&tree, 5, 5)).await;
    assert_eq!(reserved.standings.iter().map(|standing| standing.policy).collect::<Vec<_>>(), [RequestsPerMinute]);
}

pub(crate) async fn the_largest_numbers_are_counted_exactly(store: &Store) {
    let tree = limited(&[(RequestsPerMinute, limit(u64::MAX)), (TokensPerMonth, limit(u64::MAX))]);
    let first = ask(&tree, 1, 0);
    store.knows(&first, MAX_BUDGET - 3, 1).await;
    store.pass(MINUTE).await;
    let reserved = store.reserve(&first).await;
    assert_eq!(reserved.standings.iter().map(|standing| standing.limit).collect::<Vec<_>>(), [MAX_RATE, MAX_BUDGET]);
    assert_eq!(reserved.standings[1].remaining, 2);
    assert_eq!(store.refused(&ask(&tree, 3, 0)).await[0].used, MAX_BUDGET - 3);
    store.reserve(&ask(&tree, 2, 0)).await;
    assert_eq!(store.left(&first).await[1], 0);
    assert_eq!(PeriodKey::month(AT_MS).to_string(), "2026-11");
    store.pass(LEASE).await;
    assert_eq!(store.left(&first).await[1], 3, "what lapsed is there again");
}
