//! Hooks after the model, for answers that are sent whole or in one piece.

use serde_json::{Value, json};
use souk_protocol::hooks::{OnFailure, Part, Step};

use super::house::{House, around, chat, of_adapter, of_caller, puppet, with};
use crate::stack::{Stack, says};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// The puppet after the model.
fn answer(house: &House, told: &Value) -> Step {
    puppet(house, &json!({ "answer": told }), &[Part::Answer])
}

fn tag(house: &House, text: &str) -> Step {
    answer(house, &json!({"do": "tag", "text": text}))
}

#[tokio::test]
async fn the_publishers_hooks_act_before_the_callers_and_the_first_of_each_last() {
    let (around, house) = around();
    of_caller(&around, vec![tag(&house, "A"), tag(&house, "B")]);
    of_adapter(&around, vec![tag(&house, "C"), tag(&house, "D")]);
    let stack = Stack::within(around, says("hello")).await;
    let whole = stack.post(CHAT, chat("hi")).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "helloDCBA");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    let text = json!({"model": "acme/sst2", "prompt": "hi", "echo": true});
    assert_eq!(stack.post(TEXT, text).await.json()["choices"][0]["text"], "hihelloDCBA");
    // Where it is streamed a hook without `stream` takes all of it, and it is sent in one piece.
    let body = with(with(chat("hi"), "stream", true), "stream_options", json!({"include_usage": true}));
    let streamed = stack.post(CHAT, body).await;
    let events = streamed.events();
    let contents = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(contents.filter(|content| !content.is_empty()).collect::<Vec<_>>(), ["helloDCBA"]);
    // What was generated is counted, and not what was made of it.
    assert_eq!(events[events.len() - 2]["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
}

#[tokio::test]
async fn what_a_prompt_carries_reaches_the_same_hooks_answer_and_no_others() {
    let (around, house) = around();
    let carrying = |text: &str| {
        let config = json!({"prompt": {"do": "carry", "text": text}, "answer": {"do": "carry"}});
        puppet(&house, &config, &[Part::Prompt, Part::Answer])
    };
    of_caller(&around, vec![carrying("[a]"), answer(&house, &json!({"do": "carry"}))]);
    of_adapter(&around, vec![carrying("[b]")]);
    let stack = Stack::within(around, says("hello")).await;
    let body = with(chat("hi"), "n", 2);
    for choice in stack.post(CHAT, body).await.json()["choices"].as_array().unwrap() {
        assert_eq!(choice["message"]["content"], "hello[b][a]");
    }
}

#[tokio::test]
async fn an_answer_is_seen_with_its_number_its_usage_and_its_tokens_where_they_are_asked_for() {
    let (around, house) = around();
    of_caller(&around, vec![answer(&house, &json!({"do": "see"}))]);
    let stack = Stack::within(around, says("hello")).await;
    let body = with(with(chat("hi"), "n", 2), "logprobs", true);
    let whole = stack.post(CHAT, body).await.json();
    let prompt_tokens = &whole["usage"]["prompt_tokens"];
    for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
        let expected = format!("{index}:hello;{prompt_tokens}+2;tokens=Some(1);FinishReason::Stop");
        assert_eq!(choice["message"]["content"], expected);
        // What is sent is not what the model wrote, so nothing is said of its tokens.
        assert_eq!(choice["logprobs"]["content"], json!([]));
    }
    let whole = stack.post(CHAT, with(chat("hi"), "max_tokens", 1)).await.json();
    let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.ends_with("+1;tokens=None;FinishReason::Length"), "{content}");
}

#[tokio::test]
async fn logprobs_stay_with_text_that_no_hook_has_changed() {
    let (around, house) = around();
    of_caller(&around, vec![answer(&house, &json!({"do": "same"})), answer(&house, &json!({"do": "nothing"}))]);
    let stack = Stack::within(around.clone(), says("hello")).await;
    let body = with(chat("hi"), "logprobs", true);
    let whole = stack.post(CHAT, body.clone()).await.json();
    assert_eq!(whole["choices"][0]["logprobs"]["content"][0]["token"], "hello");
    of_caller(&around, vec![tag(&house, "A")]);
    let whole = stack.post(CHAT, body).await.json();
    assert_eq!(whole["choices"][0]["logprobs"]["content"], json!([]));
}

#[tokio::test]
async fn what_a_hook_answers_goes_through_the_hooks_around_it() {
    let (around, house) = around();
    let outer = puppet(&house, &json!({"answer": {"do": "tag", "text": "A"}}), &[Part::Prompt, Part::Answer]);
    let answering = json!({"prompt": {"do": "answer", "text": "said"}, "answer": {"do": "tag", "text": "B"}});
    of_caller(&around, vec![outer, puppet(&house, &answering, &[Part::Prompt, Part::Answer])]);
    of_adapter(&around, vec![tag(&house, "C")]);
    let mut stack = Stack::within(around, says("hello")).await;
    for stream in [false, true] {
        let answer = stack.post(CHAT, with(chat("hi"), "stream", stream)).await;
        assert!(answer.text.contains("\"content\":\"saidA\""), "{}", answer.text);
    }
    assert!(stack.jobs.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_may_be_refused_and_a_hook_that_fails_passed_over() {
    let (around, house) = around();
    of_caller(&around, vec![answer(&house, &json!({"do": "refuse", "status": 403, "text": "no"}))]);
    let stack = Stack::within(around.clone(), says("hello")).await;
    for stream in [false, true] {
        let answer = stack.post(CHAT, with(chat("hi"), "stream", stream)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["message"]), (403, &json!("no")));
    }
    let skipped = Step { on_failure: OnFailure::Skip, ..answer(&house, &json!({"do": "trap"})) };
    of_caller(&around, vec![tag(&house, "A"), skipped, tag(&house, "B")]);
    let whole = stack.post(CHAT, chat("hi")).await.json();
    assert_eq!(whole["choices"][0]["message"]["content"], "helloBA");
}

#[tokio::test]
async fn masked_data_never_reaches_the_model_and_is_back_in_the_answer() {
    let (around, house) = around();
    of_caller(&around, vec![super::house::step(&house, "pii-mask", &json!({}))]);
    let mut stack = Stack::within(around, says("write to [EMAIL_1] or [EMAIL_2]")).await;
    for stream in [false, true] {
        let answer = stack.post(CHAT, with(chat("ann@example.org asks bob@example.org"), "stream", stream)).await;
        let text = if stream {
            answer.streamed_text(0)
        } else {
            answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        assert_eq!(text, "write to ann@example.org or bob@example.org");
        let prompt = stack.jobs.recv().await.unwrap().prompt;
        let asked = crate::stack::tokenizer().decode(&prompt);
        assert!(asked.contains("[EMAIL_1] asks [EMAIL_2]") && !asked.contains("example.org"), "{asked}");
    }
}
