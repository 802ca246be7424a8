//! What requests cost that hooks act on.

use std::time::Duration;

use serde_json::{Value, json};
use souk_protocol::hooks::{HookUse, OnFailure, Part, Step};
use souk_protocol::ids::HookVersionId;
use souk_protocol::{Limit, Mode, Outcome, Policy, RequestRecord};

use super::house::{House, around, chat, of_adapter, of_caller, puppet, with};
use crate::records::{Booked, Records};
use crate::stack::{Around, Stack, says};

const CHAT: &str = "/v1/chat/completions";

fn after(house: &House, part: Part, told: &Value) -> Step {
    puppet(house, &json!({ part.as_str(): told }), &[part])
}

/// What a job is charged.
fn charge(booked: &Booked) -> (u32, u32) {
    (booked.number("charge.input"), booked.number("charge.output"))
}

#[tokio::test]
async fn the_callers_own_hook_costs_what_was_computed_and_the_publishers_nothing() {
    let records = Records::listen();
    for (part, stream) in [(Part::Answer, false), (Part::Answer, true), (Part::Stream, true), (Part::Stream, false)] {
        for told in [json!({"do": "refuse", "text": "no"}), json!({"do": "trap"})] {
            let (around, house) = around();
            let step = after(&house, part, &told);
            let stack = Stack::within(around.clone(), says("hello hello")).await;
            of_caller(&around, vec![step.clone()]);
            let body = with(chat("hi"), "stream", stream);
            let answer = stack.post(CHAT, body.clone()).await;
            assert!(!answer.status.is_success(), "{}", answer.text);
            let own = records.take_one().await;
            assert_eq!(own.text("outcome"), "own_hook");
            assert_eq!(charge(&own), (own.number("tokens.prompt"), own.number("tokens.computed")));
            assert!(own.number("tokens.computed") > 0);
            around.change_tree(|tree| tree.hooks = None);
            of_adapter(&around, vec![step]);
            let again = stack.post(CHAT, body).await;
            assert_eq!(again.status, answer.status);
            let publishers = records.take_one().await;
            assert_eq!((publishers.text("outcome"), charge(&publishers)), ("publisher_hook", (0, 0)));
        }
    }
}

#[tokio::test]
async fn where_one_answer_of_a_whole_request_is_refused_none_is_sent_and_none_counts_as_ended() {
    let records = Records::listen();
    let (around, house) = around();
    let told = json!({"do": "refuse_second", "text": "no"});
    of_adapter(&around, vec![after(&house, Part::Answer, &told)]);
    let stack = Stack::within(around, says("hello")).await;
    let answer = stack.post(CHAT, with(chat("hi"), "n", 3)).await;
    assert_eq!(answer.status, 400);
    for booked in records.take(3).await {
        assert_eq!((booked.text("outcome"), charge(&booked)), ("publisher_hook", (0, 0)));
    }
}

#[tokio::test]
async fn an_answer_that_a_hook_changed_costs_what_the_model_said() {
    let records = Records::listen();
    let (around, house) = around();
    of_caller(
        &around,
        vec![
            after(&house, Part::Answer, &json!({"do": "tag", "text": " and so on and so on"})),
            after(&house, Part::Stream, &json!({"do": "hold"})),
        ],
    );
    let stack = Stack::within(around, says("hello world")).await;
    for stream in [false, true] {
        stack.post(CHAT, with(chat("hi"), "stream", stream)).await;
        let booked = records.take_one().await;
        let said = crate::stack::tokenizer().encode("hello world").unwrap().len() as u32 + 1;
        assert_eq!((booked.text("outcome"), booked.number("tokens.delivered")), ("stop", said));
        assert_eq!(charge(&booked), (booked.number("tokens.prompt"), said));
    }
}

#[tokio::test]
async fn a_requests_row_says_what_hooks_did_in_it() {
    let (around, house) = around();
    let id = |name: &str| HookVersionId::from_stored(name);
    let named = |name: &str, step: Step| Step { id: id(name), ..step };
    let tagging = json!({"prompt": {"do": "tag", "text": "x"}, "answer": {"do": "tag", "text": "y"}});
    let failing = Step { on_failure: OnFailure::Skip, ..after(&house, Part::Answer, &json!({"do": "trap"})) };
    of_caller(
        &around,
        vec![named("hkv_tag", puppet(&house, &tagging, &[Part::Prompt, Part::Answer])), named("hkv_fail", failing)],
    );
    of_adapter(
        &around,
        vec![named("hkv_refuse", after(&house, Part::Answer, &json!({"do": "refuse_second", "text": "n"})))],
    );
    let stack = Stack::within(around.clone(), says("hello")).await;
    assert_eq!(stack.post(CHAT, with(chat("hi"), "n", 2)).await.status, 400);
    let row = loop {
        if let [row] = around.rows.all().as_slice() {
            break row.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let of = |name: &str| row.hooks.iter().find(|one| one.version == id(name)).cloned().unwrap();
    let (tag, refuse) = (of("hkv_tag"), of("hkv_refuse"));
    assert!(tag.calls >= 1 && tag.calls <= 2 && tag.fuel > 0 && tag.failures == 0, "{tag:?}");
    assert_eq!(
        HookUse { fuel: 0, processor_us: 0, calls: 0, ..refuse },
        HookUse { refusals: 1, ..HookUse::none(id("hkv_refuse")) }
    );
    if let Some(fail) = row.hooks.iter().find(|one| one.version == id("hkv_fail")) {
        assert_eq!((fail.calls, fail.failures, fail.skipped), (1, 1, 1));
    }
    assert_eq!(row.model, "acme/sst2");
}

/// The rows as soon as there are so many.
async fn rows(around: &Around, num_rows: usize) -> Vec<RequestRecord> {
    for _ in 0..500 {
        if around.rows.all().len() >= num_rows {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let rows = around.rows.all();
    assert_eq!(rows.len(), num_rows, "{rows:?}");
    rows
}

#[tokio::test]
async fn a_request_that_hooks_end_before_the_model_has_a_row_with_its_outcome_and_no_charge() {
    let cases = [
        (json!({"do": "answer", "text": "said"}), 200, Outcome::HookAnswered, Outcome::HookAnswered),
        (json!({"do": "refuse", "text": "no"}), 400, Outcome::OwnHook, Outcome::PublisherHook),
        (json!({"do": "trap"}), 502, Outcome::OwnHook, Outcome::PublisherHook),
    ];
    for (told, status, own, publishers) in cases {
        for (is_own, outcome) in [(true, own), (false, publishers)] {
            let (around, house) = around();
            let step = after(&house, Part::Prompt, &told);
            match is_own {
                true => of_caller(&around, vec![step]),
                false => of_adapter(&around, vec![step]),
            }
            let mut stack = Stack::within(around.clone(), says("hello")).await;
            let answer = stack.post(CHAT, with(chat("hi"), "n", 2)).await;
            assert_eq!(answer.status, status, "{told}: {}", answer.text);
            let row = rows(&around, 1).await.remove(0);
            assert_eq!(row.jobs.iter().map(|job| job.outcome).collect::<Vec<_>>(), [outcome; 2], "{told}");
            assert_eq!(
                (row.charge(), row.model.as_str(), row.operation.as_str()),
                ((0, 0), "acme/sst2", "chat.completion")
            );
            let used = &row.hooks[0];
            assert!(used.calls == 1 && used.fuel > 0 && used.processor_us > 0, "{used:?}");
            assert_eq!(used.refusals + used.failures, u32::from(status != 200), "{used:?}");
            assert!(stack.jobs.try_recv().is_err(), "the model was not asked");
            assert_eq!(stack.accounting.num_holding(), 0);
        }
    }
}

#[tokio::test]
async fn what_hooks_around_a_hooks_answer_do_is_in_its_row() {
    for (stream, parts) in [(false, Part::Answer), (true, Part::Stream)] {
        for (told, outcome) in [
            (json!({"do": "tag", "text": "!"}), Outcome::HookAnswered),
            (json!({"do": "refuse", "text": "no"}), Outcome::OwnHook),
            (json!({"do": "trap"}), Outcome::OwnHook),
        ] {
            let (around, house) = around();
            of_caller(&around, vec![after(&house, parts, &told)]);
            of_adapter(&around, vec![after(&house, Part::Prompt, &json!({"do": "answer", "text": "said"}))]);
            let stack = Stack::within(around.clone(), says("hello")).await;
            stack.post(CHAT, with(chat("hi"), "stream", stream)).await;
            let row = rows(&around, 1).await.remove(0);
            assert_eq!((row.jobs[0].outcome, row.charge()), (outcome, (0, 0)), "{told}, streamed: {stream}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_hooks_answer_half_way_has_left() {
    let (around, house) = around();
    of_caller(&around, vec![after(&house, Part::Stream, &json!({"do": "upper"}))]);
    of_adapter(&around, vec![after(&house, Part::Prompt, &json!({"do": "answer", "text": "said"}))]);
    let stack = Stack::within(around.clone(), says("hello")).await;
    let mut body = stack.open(CHAT, with(chat("hi"), "stream", true)).await;
    assert!(futures::StreamExt::next(&mut body).await.is_some(), "it begins");
    drop(body);
    let row = rows(&around, 1).await.remove(0);
    assert_eq!((row.jobs[0].outcome, row.charge()), (Outcome::CallerLeft, (0, 0)));
}

#[tokio::test]
async fn what_never_reached_the_model_may_be_repeated_and_counts_each_time() {
    let (around, house) = around();
    let answering = after(&house, Part::Prompt, &json!({"do": "answer", "text": "said"}));
    of_caller(&around, vec![answering]);
    let stack = Stack::within(around.clone(), says("hello")).await;
    for num_rows in [1, 2] {
        let mut request = crate::stack::request("POST", CHAT, crate::stack::KEY, chat("hi").to_string());
        request.headers_mut().insert("idempotency-key", "one".parse().unwrap());
        let answer = stack.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.headers.contains_key("idempotency-replayed")), (200, false));
        rows(&around, num_rows).await;
        // The key is free as soon as the request is forgotten, which is a task of its own.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stack.accounting.num_holding(), 0);
}

#[tokio::test]
async fn a_request_counts_among_those_of_a_minute_before_its_hooks_run_and_once() {
    let (around, house) = around();
    // A bucket begins empty with its store: within a minute not all of it can be there.
    let limit = |value| Limit { value, soft: None, mode: Mode::Enforce };
    around.change_tree(|tree| _ = tree.levels[0].limits.insert(Policy::RequestsPerMinute, limit(60_000)));
    let told = [json!({"do": "answer", "text": "said"}), json!({"do": "refuse"}), json!({"do": "tag", "text": "x"})];
    let stack = Stack::within(around.clone(), says("hello")).await;
    for (number, told) in told.iter().enumerate() {
        of_caller(&around, vec![after(&house, Part::Prompt, told)]);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let answer = stack.post(CHAT, chat("hi")).await;
        assert_eq!(answer.headers["x-ratelimit-limit-requests"], "60000", "{told}: {}", answer.text);
        rows(&around, number + 1).await;
    }
    around.change_tree(|tree| _ = tree.levels[0].limits.insert(Policy::RequestsPerMinute, limit(1)));
    let mut refused = None;
    for _ in 0..2 {
        refused = Some(stack.post(CHAT, chat("hi")).await);
    }
    let refused = refused.unwrap();
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded", "{}", refused.text);
    let calls: u32 = rows(&around, told.len()).await.iter().map(|row| row.hooks[0].calls).sum();
    assert_eq!(calls, 3, "no hook ran for what was refused");
}
