//! Requests with an `Idempotency-Key`: run and charged once, however often they are sent.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use souk_protocol::{GenerateJob, JobEvent, JobFailure};

use crate::stack::{Around, HttpAnswer, KEY, Script, Stack, Step, answer, request, says, tokenizer};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const SAYING: &str = "hello world";

fn body(stream: bool) -> Value {
    json!({"model": "acme/sst2", "messages": [{"role": "user", "content": "hello"}], "stream": stream})
}

fn keyed(path: &str, key: &str, body: &Value) -> Request<Body> {
    let mut request = request("POST", path, KEY, body.to_string());
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

fn keeping() -> Around {
    let around = Around::default();
    around.change_tree(|tree| tree.keeps_answers = true);
    around
}

fn code(answer: &HttpAnswer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn header(answer: &HttpAnswer, name: &str) -> String {
    answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

/// Sends it until it has ended, which the writer and the port hear of a moment after its answer.
async fn send_after_the_end(stack: &Stack, path: &str, key: &str, body: &Value) -> HttpAnswer {
    for _ in 0..500 {
        let answer = stack.send(keyed(path, key, body)).await;
        if answer.status != 409 || code(&answer) != "idempotency_in_flight" {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never ends");
}

#[tokio::test]
async fn a_whole_answer_is_given_again_byte_for_byte_and_charged_once() {
    let stack = Stack::within(keeping(), says(SAYING)).await;
    let first = stack.send(keyed(CHAT, "one", &body(false))).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(header(&first, "idempotency-replayed"), "");
    // Bare or in quotes it is the same key.
    for key in ["one", "\"one\""] {
        let again = send_after_the_end(&stack, CHAT, key, &body(false)).await;
        assert_eq!((again.status.as_u16(), &again.text), (200, &first.text));
        assert_eq!(header(&again, "idempotency-replayed"), "true");
        assert_eq!(header(&again, "x-souk-first-request"), header(&first, "x-request-id"));
        assert_ne!(header(&again, "x-request-id"), header(&first, "x-request-id"));
        for name in ["content-type", "x-souk-adapter-digest"] {
            assert_eq!(header(&again, name), header(&first, name));
        }
    }
    let rows = stack.around.rows.wait_for(1).await;
    assert!(rows[0].repeat.is_some());
    let other = stack.send(keyed(CHAT, "two", &body(false))).await;
    assert_eq!(other.status, 200);
    stack.around.rows.wait_for(2).await;
}

#[tokio::test]
async fn streams_and_answers_that_may_not_be_kept_are_named_and_not_run_again() {
    for (around, stream) in [(keeping(), true), (Around::default(), false)] {
        let stack = Stack::within(around, says(SAYING)).await;
        let first = stack.send(keyed(CHAT, "one", &body(stream))).await;
        assert_eq!(first.status, 200);
        let again = send_after_the_end(&stack, CHAT, "one", &body(stream)).await;
        assert_eq!((again.status.as_u16(), code(&again).as_str()), (409, "idempotency_answer_not_kept"));
        let id = header(&first, "x-request-id");
        assert_eq!(header(&again, "x-souk-first-request"), id);
        assert!(again.json()["error"]["message"].as_str().unwrap().contains(&id));
        stack.around.rows.wait_for(1).await;
    }
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused_and_on_another_route_another() {
    let stack = Stack::within(keeping(), says(SAYING)).await;
    assert_eq!(stack.send(keyed(CHAT, "one", &body(false))).await.status, 200);
    let mut other = body(false);
    other["max_tokens"] = json!(2);
    let refused = send_after_the_end(&stack, CHAT, "one", &other).await;
    assert_eq!((refused.status.as_u16(), code(&refused).as_str()), (422, "idempotency_mismatch"));
    let text = json!({"model": "tiny", "prompt": "hello"});
    assert_eq!(stack.send(keyed(TEXT, "one", &text)).await.status, 200);
}

#[tokio::test]
async fn keys_that_are_none_are_refused_by_name() {
    let stack = Stack::within(keeping(), says(SAYING)).await;
    let too_long = "k".repeat(256);
    for (key, given) in [("\"\"", "0"), (too_long.as_str(), "256")] {
        let refused = stack.send(keyed(CHAT, key, &body(false))).await;
        assert_eq!((refused.status.as_u16(), code(&refused).as_str()), (400, "invalid_value"), "{}", refused.text);
        let error = refused.json()["error"].clone();
        assert_eq!(error["param"], "Idempotency-Key");
        assert!(error["message"].as_str().unwrap().ends_with(&format!("given {given}.")), "{error}");
    }
}

#[tokio::test]
async fn of_many_at_once_one_runs_and_all_are_charged_once() {
    let slow: Script = Arc::new(|job, _| {
        let steps = answer(job, &tokenizer().encode(SAYING).unwrap()).into_iter();
        steps.flat_map(|step| [step, Step::Wait(Duration::from_millis(10))]).collect()
    });
    let stack = Arc::new(Stack::within(keeping(), slow).await);
    let racing = (0..16).map(|_| {
        let stack = Arc::clone(&stack);
        tokio::spawn(async move { stack.send(keyed(CHAT, "one", &body(false))).await })
    });
    let answers: Vec<HttpAnswer> = futures::future::join_all(racing).await.into_iter().map(Result::unwrap).collect();
    let ran: Vec<_> =
        answers.iter().filter(|answer| answer.status == 200 && header(answer, "idempotency-replayed").is_empty()).collect();
    assert_eq!(ran.len(), 1);
    let id = header(ran[0], "x-request-id");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!((refused.status.as_u16(), code(refused).as_str()), (409, "idempotency_in_flight"));
        assert_eq!((header(refused, "x-souk-first-request"), header(refused, "retry-after")), (id.clone(), "1".to_owned()));
    }
    let again = send_after_the_end(&stack, CHAT, "one", &body(false)).await;
    assert_eq!(again.text, ran[0].text);
    stack.around.rows.wait_for(1).await;
}

#[tokio::test]
async fn a_request_that_was_free_may_be_sent_again() {
    let fails_first: Script = Arc::new(|job: &GenerateJob, _| {
        if job.max_tokens == 5 {
            return vec![Step::Send(JobEvent::Failed(JobFailure::Internal("no".to_owned())))];
        }
        answer(job, &tokenizer().encode(SAYING).unwrap())
    });
    let stack = Stack::within(keeping(), fails_first).await;
    let mut failing = body(false);
    failing["max_tokens"] = json!(5);
    assert_eq!(stack.send(keyed(CHAT, "one", &failing)).await.status, 500);
    assert_eq!(send_after_the_end(&stack, CHAT, "one", &failing).await.status, 500, "it runs anew");
    // What was refused before anything was queued, too.
    let mut unknown = body(false);
    unknown["model"] = json!("acme/none");
    for _ in 0..2 {
        assert_eq!(stack.send(keyed(CHAT, "two", &unknown)).await.status, 404);
    }
    assert_eq!(send_after_the_end(&stack, CHAT, "two", &body(false)).await.status, 200);
}

#[tokio::test]
async fn what_was_charged_is_not_run_again_by_a_process_that_knows_only_the_rows() {
    let stack = Stack::within(keeping(), says(SAYING)).await;
    let first = stack.send(keyed(CHAT, "one", &body(false))).await;
    stack.around.rows.wait_for(1).await;
    let (id, left) = (header(&first, "x-request-id"), stack.around.after_a_kill());
    drop(stack);
    let next = Stack::within(left, says(SAYING)).await;
    let again = next.send(keyed(CHAT, "one", &body(false))).await;
    assert_eq!((again.status.as_u16(), code(&again).as_str()), (409, "idempotency_answer_not_kept"));
    assert_eq!(header(&again, "x-souk-first-request"), id);
    // Whether it was charged cannot be told while the rows are away.
    next.around.rows.go_away(true);
    assert_eq!(next.send(keyed(CHAT, "one", &body(false))).await.status, 503);
    assert_eq!(next.send(request("POST", CHAT, KEY, body(false).to_string())).await.status, 200, "without a key nobody asks");
}
