//! Keys of requests that run once.

use std::time::Duration;

use souk_limits::port::LEASE;
use souk_limits::repeats::{KEPT_FOR, MAX_ANSWER_BYTES};
use souk_limits::{KeptAnswer, RepeatKey, RepeatState};
use souk_protocol::{Digest, RequestId, TenantId};

use crate::support::*;

fn key(name: &str) -> RepeatKey {
    RepeatKey(Digest::of(name.as_bytes()))
}

fn answer(num_bytes: usize) -> KeptAnswer {
    KeptAnswer {
        content_type: "application/json".to_owned(),
        // Any bytes.
        body: (0..=255).cycle().take(num_bytes).collect(),
        headers: vec![("x-one".to_owned(), "1".to_owned()), ("x-two".to_owned(), "ü".to_owned())],
    }
}

async fn begin(store: &Store, name: &str, request: &RequestId) -> RepeatState {
    store.repeats.begin(&tenant(), key(name), Digest::of(b"body"), request).await.unwrap()
}

async fn end(store: &Store, name: &str, request: &RequestId, answer: Option<KeptAnswer>) {
    store.repeats.end(&tenant(), key(name), request, answer).await.unwrap();
}

pub(crate) async fn the_first_runs_and_the_second_hears_of_it(store: &Store) {
    let (first, second) = (RequestId::new(), RequestId::new());
    assert_eq!(begin(store, "k", &first).await, RepeatState::First);
    assert_eq!(begin(store, "k", &second).await, RepeatState::Running(first.clone()));
    assert_eq!(begin(store, "k", &first).await, RepeatState::First, "its own question came twice");
    assert_eq!(begin(store, "other", &second).await, RepeatState::First);
}

pub(crate) async fn an_ended_request_is_answered_with_what_was_kept(store: &Store) {
    let (with, without, any) = (RequestId::new(), RequestId::new(), RequestId::new());
    begin(store, "with", &with).await;
    begin(store, "without", &without).await;
    end(store, "with", &with, Some(answer(1000))).await;
    end(store, "without", &without, None).await;
    for _ in 0..2 {
        let ended = RepeatState::Ended { request: with.clone(), answer: Some(answer(1000)) };
        assert_eq!(begin(store, "with", &any).await, ended);
        end(store, "with", &with, None).await;
        let ended = RepeatState::Ended { request: without.clone(), answer: None };
        assert_eq!(begin(store, "without", &any).await, ended);
    }
}

pub(crate) async fn another_body_under_the_same_key_is_a_mismatch(store: &Store) {
    let (first, second) = (RequestId::new(), RequestId::new());
    begin(store, "k", &first).await;
    let other = async || store.repeats.begin(&tenant(), key("k"), Digest::of(b"other"), &second).await.unwrap();
    assert_eq!(other().await, RepeatState::Mismatch);
    end(store, "k", &first, Some(answer(1))).await;
    assert_eq!(other().await, RepeatState::Mismatch);
}

pub(crate) async fn a_forgotten_request_may_run_again(store: &Store) {
    let (first, second) = (RequestId::new(), RequestId::new());
    begin(store, "k", &first).await;
    store.repeats.forget(&tenant(), key("k"), &first).await.unwrap();
    assert_eq!(begin(store, "k", &second).await, RepeatState::First);
}

pub(crate) async fn a_request_that_nobody_renews_may_run_again(store: &Store) {
    let (first, second) = (RequestId::new(), RequestId::new());
    begin(store, "k", &first).await;
    for _ in 0..6 {
        store.pass(LEASE / 3).await;
        store.repeats.renew(&tenant(), &[(key("k"), first.clone()), (key("unknown"), first.clone())]).await.unwrap();
    }
    assert_eq!(begin(store, "k", &second).await, RepeatState::Running(first.clone()));
    store.pass(LEASE).await;
    assert_eq!(begin(store, "k", &second).await, RepeatState::First);
    store.repeats.renew(&tenant(), &[(key("k"), first.clone())]).await.unwrap();
    assert_eq!(begin(store, "k", &first).await, RepeatState::Running(second));
    assert_eq!(begin(store, "unknown", &first).await, RepeatState::First);
}

pub(crate) async fn keys_of_two_tenants_have_nothing_in_common(store: &Store) {
    let other = TenantId::from_stored("ten_b");
    let (first, second) = (RequestId::new(), RequestId::new());
    begin(store, "k", &first).await;
    let state = store.repeats.begin(&other, key("k"), Digest::of(b"other"), &second).await.unwrap();
    assert_eq!(state, RepeatState::First);
    store.repeats.forget(&other, key("k"), &first).await.unwrap();
    store.repeats.end(&other, key("k"), &first, None).await.unwrap();
    assert_eq!(begin(store, "k", &second).await, RepeatState::Running(first));
}

pub(crate) async fn only_the_request_that_runs_can_end_or_be_forgotten(store: &Store) {
    let (first, second) = (RequestId::new(), RequestId::new());
    begin(store, "k", &first).await;
    store.repeats.forget(&tenant(), key("k"), &second).await.unwrap();
    end(store, "k", &second, Some(answer(1))).await;
    end(store, "unknown", &first, Some(answer(1))).await;
    assert_eq!(begin(store, "unknown", &second).await, RepeatState::First, "nothing was known of it");
    assert_eq!(begin(store, "k", &second).await, RepeatState::Running(first.clone()));
    end(store, "k", &first, None).await;
    store.repeats.forget(&tenant(), key("k"), &first).await.unwrap();
    let ended = RepeatState::Ended { request: first, answer: None };
    assert_eq!(begin(store, "k", &second).await, ended, "what was charged is not forgotten");
}

pub(crate) async fn an_ended_request_is_forgotten_after_a_day(store: &Store) {
    let (first, second) = (RequestId::new(), RequestId::new());
    begin(store, "k", &first).await;
    end(store, "k", &first, Some(answer(1))).await;
    store.pass(KEPT_FOR - SLACK).await;
    assert_ne!(begin(store, "k", &second).await, RepeatState::First);
    store.pass(SLACK + Duration::from_millis(1)).await;
    assert_eq!(begin(store, "k", &second).await, RepeatState::First);
}

pub(crate) async fn beyond_the_bound_what_ended_first_is_forgotten(store: &Store) {
    // All of one tenant are in one shard, which has room for 64 KiB.
    let requests: Vec<_> = (0..5).map(|_| RequestId::new()).collect();
    for (number, request) in requests.iter().enumerate() {
        let name = number.to_string();
        begin(store, &name, request).await;
        end(store, &name, request, Some(answer(20_000))).await;
        store.pass(Duration::from_millis(5)).await;
    }
    let any = RequestId::new();
    for number in [3, 4, 2] {
        let ended = RepeatState::Ended { request: requests[number].clone(), answer: Some(answer(20_000)) };
        assert_eq!(begin(store, &number.to_string(), &any).await, ended);
    }
    for number in [0, 1] {
        assert_eq!(begin(store, &number.to_string(), &any).await, RepeatState::First);
    }
}

pub(crate) async fn an_answer_that_is_too_long_is_not_kept(store: &Store) {
    let (first, second) = (RequestId::new(), RequestId::new());
    begin(store, "k", &first).await;
    end(store, "k", &first, Some(answer(MAX_ANSWER_BYTES + 1))).await;
    assert_eq!(begin(store, "k", &second).await, RepeatState::Ended { request: first, answer: None });
}
