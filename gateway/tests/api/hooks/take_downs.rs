//! A hook that is taken down while streams run through it.

use serde_json::json;
use souk_protocol::Digest;
use souk_protocol::hooks::{OnFailure, Part, Step};

use super::house::{around, chat, of_adapter, of_caller, puppet, with};
use crate::records::Records;
use crate::stack::{Script, Stack, Step as NodeStep, answer, read_until, tokenizer};

const CHAT: &str = "/v1/chat/completions";

/// Says a word and then nothing until it is cancelled.
fn pauses() -> Script {
    std::sync::Arc::new(|job, _| {
        let mut steps = answer(job, &tokenizer().encode("hello hello").unwrap());
        steps.truncate(3);
        steps.push(NodeStep::Hang);
        steps
    })
}

#[tokio::test]
async fn streams_through_it_end_at_once_and_no_others() {
    let records = Records::listen();
    let (around, house) = around();
    let upper = puppet(&house, &json!({"stream": {"do": "upper"}}), &[Part::Stream]);
    of_adapter(&around, vec![upper.clone()]);
    let mut stack = Stack::within(around.clone(), pauses()).await;
    let mut through = stack.open(CHAT, with(chat("hi"), "stream", true)).await;
    let mut beside = stack.open(CHAT, with(with(chat("hi"), "stream", true), "model", "tiny")).await;
    read_until(&mut through, "HELLO").await;
    read_until(&mut beside, "hello").await;
    stack.gateway.take_down(&Digest::of(b"another")).await;
    stack.gateway.take_down(&upper.digest).await;
    let rest = read_until(&mut through, "it was taken down").await;
    assert!(rest.contains("event: error") && rest.contains("hook_failed"), "{rest}");
    assert!(futures::StreamExt::next(&mut through).await.is_none(), "and that is its end");
    assert!(stack.cancelled.recv().await.is_some());
    let booked = records.take_one().await;
    let charged = (booked.text("outcome"), booked.text("charge.output"));
    assert_eq!(charged, ("taken_down", booked.text("tokens.delivered")), "as any take-down");
    // What is known of the step may be a moment old.
    let answer = stack.post(CHAT, chat("hi")).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text.contains("The hook `acme/puppet@1.0.0` failed: it was taken down."), "{}", answer.text);
    of_adapter(&around, Vec::new());
    of_caller(&around, vec![Step { on_failure: OnFailure::Skip, ..upper }]);
    let mut goes_on = stack.open(CHAT, with(chat("hi"), "stream", true)).await;
    read_until(&mut goes_on, "hello").await;
    drop((beside, goes_on));
}
