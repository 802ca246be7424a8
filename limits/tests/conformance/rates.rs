//! Buckets. Limits are so low that a case's own time refills nothing that it looks at.

use std::time::Duration;

use souk_protocol::Policy::{InputTokensPerMinute, OutputTokensPerMinute, RequestsPerMinute};

use crate::support::*;

pub(crate) async fn a_bucket_begins_empty_and_is_full_after_a_minute(store: &Store) {
    // A store in Redis is a lease old, so that a fourth is there.
    let tree = limited(&[(RequestsPerMinute, limit(2))]);
    assert_eq!(names(&store.refused(&ask(&tree, 1, 1)).await), [("tenant", RequestsPerMinute)]);
    store.pass(MINUTE).await;
    let reserved = store.reserve(&ask(&tree, 1, 1)).await;
    assert_eq!((reserved.standings[0].limit, reserved.standings[0].remaining), (2, 1));
    assert_about(Some(reserved.standings[0].resets_in), Duration::from_secs(30));
    store.reserve(&ask(&tree, 1, 1)).await;
    store.refused(&ask(&tree, 1, 1)).await;
    store.pass(MINUTE * 60).await;
    assert_eq!(store.left(&ask(&tree, 1, 1)).await, [2], "it holds no more than a minute's worth");
}

pub(crate) async fn a_refusal_says_when_there_is_room(store: &Store) {
    let tree = limited(&[(InputTokensPerMinute, limit(6))]);
    store.pass(MINUTE).await;
    store.reserve(&ask(&tree, 6, 1)).await;
    let refused = store.refused(&ask(&tree, 3, 1)).await;
    assert_eq!((refused[0].limit, refused[0].used, refused[0].held, refused[0].asked), (6, 6, 0, 3));
    assert_about(refused[0].retry_after, Duration::from_secs(30));
    store.pass(Duration::from_secs(30) - SLACK).await;
    assert_about(store.refused(&ask(&tree, 3, 1)).await[0].retry_after, SLACK);
    store.pass(SLACK).await;
    store.reserve(&ask(&tree, 3, 1)).await;
    assert_eq!(store.left(&ask(&tree, 0, 0)).await, [0]);
}

pub(crate) async fn what_was_not_used_returns_to_the_bucket_it_came_from(store: &Store) {
    let tree =
        limited(&[(RequestsPerMinute, limit(3)), (InputTokensPerMinute, limit(5)), (OutputTokensPerMinute, limit(4))]);
    store.pass(MINUTE).await;
    let first = ask(&tree, 5, 4);
    store.reserve(&first).await;
    assert_eq!(store.left(&first).await, [2, 0, 0]);
    store.settle(&first, 2, 1).await;
    assert_eq!(store.left(&first).await, [2, 3, 3]);
    store.settle(&first, 0, 0).await;
    assert_eq!(store.left(&first).await, [2, 3, 3], "once");
}

pub(crate) async fn what_is_more_than_a_whole_minutes_worth_is_never_let_in(store: &Store) {
    let tree = limited(&[(InputTokensPerMinute, limit(6)), (OutputTokensPerMinute, limit(0))]);
    store.pass(MINUTE).await;
    let refused = store.refused(&ask(&tree, 7, 1)).await;
    assert_eq!(names(&refused), [("tenant", InputTokensPerMinute), ("tenant", OutputTokensPerMinute)]);
    assert_eq!([refused[0].retry_after, refused[1].retry_after], [None, None]);
    assert_eq!((refused[0].used, refused[1].used, refused[1].limit), (0, 0, 0));
}

pub(crate) async fn what_asks_for_nothing_passes_an_empty_bucket(store: &Store) {
    let tree = limited(&[(InputTokensPerMinute, limit(6)), (OutputTokensPerMinute, limit(0))]);
    store.pass(MINUTE).await;
    store.reserve(&ask(&tree, 6, 0)).await;
    let reserved = store.reserve(&ask(&tree, 0, 0)).await;
    assert_eq!(reserved.standings.iter().map(|standing| standing.remaining).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(reserved.standings[1].resets_in, Duration::ZERO, "all of nothing is there");
}

pub(crate) async fn a_limit_that_changes_keeps_the_bucket_as_full_in_proportion(store: &Store) {
    let of = |value| limited(&[(InputTokensPerMinute, limit(value))]);
    store.pass(MINUTE).await;
    let half = ask(&of(4), 2, 0);
    store.reserve(&half).await;
    assert_eq!(store.left(&ask(&of(2), 0, 0)).await, [1]);
    assert_eq!(store.left(&ask(&of(0), 0, 0)).await, [0]);
    assert_eq!(store.left(&ask(&of(4), 0, 0)).await, [2], "looking changes nothing");
    store.refused(&ask(&of(2), 2, 0)).await;
    store.reserve(&ask(&of(2), 1, 0)).await;
    assert_eq!(store.left(&ask(&of(4), 0, 0)).await, [0]);
    // What was taken of the old limit returns in its proportion of the new one.
    store.settle(&half, 0, 0).await;
    assert_eq!(store.left(&ask(&of(2), 0, 0)).await, [1]);
}

pub(crate) async fn a_rate_in_shadow_mode_tells_what_it_would_have_refused_and_takes_nothing_for_it(store: &Store) {
    let tree = limited(&[(InputTokensPerMinute, shadow(5))]);
    store.pass(MINUTE).await;
    let first = ask(&tree, 4, 0);
    assert_eq!(store.reserve(&first).await.shadowed, []);
    let second = ask(&tree, 4, 0);
    let reserved = store.reserve(&second).await;
    assert_eq!(names(&reserved.shadowed), [("tenant", InputTokensPerMinute)]);
    assert_eq!((reserved.shadowed[0].used, reserved.shadowed[0].asked), (4, 4));
    assert_eq!(store.reserve(&ask(&tree, 1, 0)).await.shadowed, [], "the second would not have run");
    store.settle(&second, 1, 0).await;
    assert_eq!(store.left(&second).await, [0], "and has nothing to give back");
    store.settle(&first, 1, 0).await;
    assert_eq!(store.left(&second).await, [3]);
}

pub(crate) async fn input_and_output_have_buckets_of_their_own(store: &Store) {
    let tree = limited(&[(InputTokensPerMinute, limit(5)), (OutputTokensPerMinute, limit(5))]);
    store.pass(MINUTE).await;
    store.reserve(&ask(&tree, 5, 1)).await;
    assert_eq!(names(&store.refused(&ask(&tree, 1, 1)).await), [("tenant", InputTokensPerMinute)]);
    store.reserve(&ask(&tree, 0, 4)).await;
    assert_eq!(names(&store.refused(&ask(&tree, 0, 1)).await), [("tenant", OutputTokensPerMinute)]);
}
