//! Hooks after the model, for answers that are sent piece by piece.

use serde_json::{Value, json};
use souk_protocol::hooks::{OnFailure, Part, Step};

use super::house::{House, around, chat, of_adapter, of_caller, puppet, with};
use crate::records::Records;
use crate::stack::{HttpAnswer, Script, Stack, Step as NodeStep, answer, read_until, says, tokenizer};

const CHAT: &str = "/v1/chat/completions";

/// The puppet on a stream.
fn stream(house: &House, told: &Value) -> Step {
    puppet(house, &json!({ "stream": told }), &[Part::Stream])
}

fn streamed(content: &str) -> Value {
    with(with(chat(content), "stream", true), "stream_options", json!({"include_usage": true}))
}

/// The texts of a stream's chunks, in order.
fn pieces(answer: &HttpAnswer) -> Vec<String> {
    let events = answer.events();
    let contents = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    contents.filter(|content| !content.is_empty()).map(str::to_owned).collect()
}

fn finish(answer: &HttpAnswer) -> String {
    let events = answer.events();
    let finish = events.iter().find_map(|event| event["choices"][0]["finish_reason"].as_str());
    finish.unwrap_or("none").to_owned()
}

/// Says some words and then nothing until it is cancelled.
fn pauses_after(num_steps: usize) -> Script {
    std::sync::Arc::new(move |job, _| {
        let mut steps = answer(job, &tokenizer().encode("hello hello hello hello").unwrap());
        steps.truncate(num_steps);
        steps.push(NodeStep::Hang);
        steps
    })
}

#[tokio::test]
async fn pieces_go_through_the_publishers_stream_and_then_the_callers() {
    let (around, house) = around();
    of_caller(&around, vec![stream(&house, &json!({"do": "tag", "text": "A"}))]);
    of_adapter(
        &around,
        vec![stream(&house, &json!({"do": "upper"})), stream(&house, &json!({"do": "tag", "text": "b"}))],
    );
    let stack = Stack::within(around, says("hello world")).await;
    let answer = stack.post(CHAT, streamed("hi")).await;
    assert_eq!(answer.streamed_text(0), "HELLO WORLDBA");
    assert!(pieces(&answer).len() > 2, "as they come");
    assert_eq!(finish(&answer), "stop");
    // A whole answer is one piece of such a stream.
    let whole = stack.post(CHAT, chat("hi")).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "HELLO WORLDBA");
}

#[tokio::test]
async fn what_is_held_back_comes_at_the_end_and_each_choice_has_its_own_stream() {
    let (around, house) = around();
    of_caller(&around, vec![stream(&house, &json!({"do": "hold", "text": "!"}))]);
    let stack = Stack::within(around, says("hello world")).await;
    let answer = stack.post(CHAT, with(streamed("hi"), "n", 2)).await;
    assert_eq!((answer.streamed_text(0), answer.streamed_text(1)), ("hello world!".into(), "hello world!".into()));
    assert_eq!(pieces(&answer), ["hello world!", "hello world!"]);
}

#[tokio::test]
async fn a_stream_ends_with_what_was_counted_and_what_the_prompt_left() {
    let (around, house) = around();
    let carrying = json!({"prompt": {"do": "carry", "text": "[c]"}, "stream": {"do": "carry"}});
    of_caller(
        &around,
        vec![stream(&house, &json!({"do": "see"})), puppet(&house, &carrying, &[Part::Prompt, Part::Stream])],
    );
    let stack = Stack::within(around, says("hello")).await;
    let answer = stack.post(CHAT, streamed("hi")).await;
    let events = answer.events();
    let usage = &events[events.len() - 2]["usage"];
    let expected = format!("hello[c];{}+{};FinishReason::Stop", usage["prompt_tokens"], usage["completion_tokens"]);
    assert_eq!(answer.streamed_text(0), expected);
}

#[tokio::test]
async fn a_hook_that_ends_an_answer_ends_its_job_and_what_was_delivered_is_charged() {
    let records = Records::listen();
    let (around, house) = around();
    of_caller(&around, vec![stream(&house, &json!({"do": "tag", "text": "A"}))]);
    of_adapter(&around, vec![stream(&house, &json!({"do": "end", "after": 2, "text": "."}))]);
    let mut stack = Stack::within(around, pauses_after(5)).await;
    let answer = stack.post(CHAT, streamed("hi")).await;
    assert_eq!(answer.streamed_text(0), "hello hello.A", "the caller's hook has the last word");
    assert_eq!(finish(&answer), "content_filter");
    let events = answer.events();
    assert_eq!(events[events.len() - 2]["usage"]["completion_tokens"], 3);
    assert!(stack.cancelled.recv().await.is_some(), "the model works on it no longer");
    let booked = records.take_one().await;
    assert_eq!((booked.text("outcome"), booked.number("tokens.delivered")), ("stop", 3));
    assert_eq!(booked.number("charge.output"), 3);
}

#[tokio::test]
async fn a_stream_is_refused_with_a_status_before_it_has_begun_and_with_an_event_after() {
    for (after, is_begun) in [(0, false), (2, true)] {
        let (around, house) = around();
        let told = json!({"do": "refuse", "after": after, "status": 422, "text": "enough"});
        of_caller(&around, vec![stream(&house, &told)]);
        let stack = Stack::within(around, says("hello hello hello")).await;
        let answer = stack.post(CHAT, streamed("hi")).await;
        assert!(answer.text.contains("\"message\":\"enough\"") && answer.text.contains("hook_refused"));
        if is_begun {
            assert_eq!(answer.status, 200);
            assert!(answer.text.contains("event: error") && !answer.text.contains("[DONE]"), "{}", answer.text);
            assert_eq!(answer.streamed_text(0), "hello hello".split_at(6).0.to_owned() + "");
        } else {
            assert_eq!(answer.status.as_u16(), 422);
        }
    }
}

#[tokio::test]
async fn a_stream_whose_hook_traps_ends_or_goes_on_and_loses_nothing() {
    let (around, house) = around();
    let trapping = stream(&house, &json!({"do": "trap", "after": 2}));
    of_caller(&around, vec![Step { on_failure: OnFailure::Skip, ..trapping.clone() }]);
    let stack = Stack::within(around.clone(), says("hello hello hello")).await;
    let answer = stack.post(CHAT, streamed("hi")).await;
    assert_eq!((answer.streamed_text(0).as_str(), finish(&answer).as_str()), ("hello hello hello", "stop"));
    let at_end = stream(&house, &json!({"do": "trap_at_end"}));
    of_caller(&around, vec![Step { on_failure: OnFailure::Skip, ..at_end }]);
    let answer = stack.post(CHAT, streamed("hi")).await;
    assert_eq!(answer.streamed_text(0), "hello hello hello");
    // Once something has been sent its end is an event.
    of_caller(&around, vec![stream(&house, &json!({"do": "upper"})), trapping]);
    let answer = stack.post(CHAT, streamed("hi")).await;
    assert_eq!(answer.status, 502, "nothing had been sent: {}", answer.text);
    of_caller(&around, vec![stream(&house, &json!({"do": "trap_at_end"}))]);
    let answer = stack.post(CHAT, streamed("hi")).await;
    assert!(answer.text.contains("event: error") && answer.text.contains("hook_failed"), "{}", answer.text);
    assert!(answer.text.contains("The hook `acme/puppet@1.0.0` failed: it stopped with a trap."), "{}", answer.text);
}

#[tokio::test]
async fn tokens_are_seen_where_logprobs_are_asked_for_and_end_with_the_first_change() {
    let (around, house) = around();
    of_caller(&around, vec![stream(&house, &json!({"do": "tokens"}))]);
    let stack = Stack::within(around.clone(), says("hello")).await;
    let answer = stack.post(CHAT, streamed("hi")).await;
    assert_eq!(answer.streamed_text(0), "hello(0)");
    let answer = stack.post(CHAT, with(streamed("hi"), "logprobs", true)).await;
    assert_eq!(answer.streamed_text(0), "hello(1)");
    assert!(!answer.text.contains("\"token\":"), "{}", answer.text);
    of_caller(&around, vec![stream(&house, &json!({"do": "nothing"}))]);
    let answer = stack.post(CHAT, with(streamed("hi"), "logprobs", true)).await;
    assert!(answer.text.contains("\"token\":\"hello\""), "{}", answer.text);
}

#[tokio::test]
async fn a_client_that_leaves_drops_the_hooks_and_is_charged_what_was_delivered() {
    let records = Records::listen();
    let (around, house) = around();
    of_caller(&around, vec![stream(&house, &json!({"do": "upper"}))]);
    let mut stack = Stack::within(around, pauses_after(3)).await;
    let mut body = stack.open(CHAT, streamed("hi")).await;
    read_until(&mut body, "HELLO").await;
    assert!(stack.get("/metrics").await.text.contains("souk_hook_streams_open 1"));
    drop(body);
    assert!(stack.cancelled.recv().await.is_some());
    let booked = records.take_one().await;
    assert_eq!(
        (booked.text("outcome"), booked.text("charge.output")),
        ("caller_left", booked.text("tokens.delivered"))
    );
    assert!(booked.number("tokens.delivered") > 0);
    assert!(stack.get("/metrics").await.text.contains("souk_hook_streams_open 0"));
}
