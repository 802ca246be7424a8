//! What requests cost that hooks act on.

use serde_json::{Value, json};
use souk_protocol::hooks::{HookUse, OnFailure, Part, Step};
use souk_protocol::ids::HookVersionId;

use super::house::{House, around, chat, of_adapter, of_caller, puppet, with};
use crate::records::{Booked, Records};
use crate::stack::{Stack, says};

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
        HookUse { fuel: 0, calls: 0, ..refuse },
        HookUse { version: id("hkv_refuse"), calls: 0, failures: 0, skipped: 0, refusals: 1, fuel: 0 }
    );
    if let Some(fail) = row.hooks.iter().find(|one| one.version == id("hkv_fail")) {
        assert_eq!((fail.calls, fail.failures, fail.skipped), (1, 1, 1));
    }
    assert_eq!(row.model, "acme/sst2");
}

#[tokio::test]
async fn what_never_reached_the_model_leaves_no_row_and_may_be_repeated() {
    let (around, house) = around();
    let answering = after(&house, Part::Prompt, &json!({"do": "answer", "text": "said"}));
    of_caller(&around, vec![answering]);
    let stack = Stack::within(around.clone(), says("hello")).await;
    for _ in 0..2 {
        let mut request = crate::stack::request("POST", CHAT, crate::stack::KEY, chat("hi").to_string());
        request.headers_mut().insert("idempotency-key", "one".parse().unwrap());
        let answer = stack.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.headers.contains_key("idempotency-replayed")), (200, false));
        // The key is free as soon as the request is forgotten, which is a task of its own.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(around.rows.all().is_empty());
    assert_eq!(stack.accounting.num_holding(), 0);
}
