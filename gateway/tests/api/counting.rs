//! Every job is counted once, with what was computed and what was delivered, however it ends.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use souk_gateway::GatewayLimits;
use souk_protocol::{GenerateJob, JobEvent, JobFailure};
use souk_queue::{NodeStatus, QueueConfig};

use crate::records::Records;
use crate::stack::{HttpAnswer, Script, Stack, Step, answer, pool, says, tokenizer};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
/// Seven tokens, the ending one included.
const SAYING: &str = "hello world";

fn chat(stream: bool, more: &Value) -> Value {
    let mut body = json!({"model": "acme/sst2", "messages": [{"role": "user", "content": "hello"}], "stream": stream});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn num_tokens() -> u32 {
    tokenizer().encode(SAYING).unwrap().len() as u32 + 1
}

/// Says it a token at a time, with a pause after each, so that nobody is far ahead of the reader.
fn slowly(pause: Duration) -> Script {
    Arc::new(move |job, _| {
        let steps = answer(job, &tokenizer().encode(SAYING).unwrap()).into_iter();
        steps.flat_map(|step| [step, Step::Wait(pause)]).collect()
    })
}

/// Reads a stream until `num_chunks` of its events bring text, and leaves. The node has taken the job by then.
async fn leave_after(stack: &mut Stack, num_chunks: usize) {
    let mut body = stack.open(CHAT, chat(true, &json!({}))).await;
    stack.jobs.recv().await.unwrap();
    let mut seen = 0;
    while seen < num_chunks {
        let frame = body.next().await.expect("more").unwrap();
        let brings_text = |event: &&str| event.contains("\"content\":\"") && !event.contains("\"content\":\"\"");
        seen += std::str::from_utf8(&frame).unwrap().split("\n\n").filter(brings_text).count();
    }
}

#[tokio::test]
async fn a_client_that_leaves_after_any_event_is_counted_with_what_it_was_sent_and_what_was_computed() {
    let records = Records::listen();
    let num_texts = num_tokens() as usize - 1;
    for num_chunks in 0..=num_texts {
        let mut stack = Stack::start(slowly(Duration::from_millis(20))).await;
        leave_after(&mut stack, num_chunks).await;
        let (job, _, usage) = stack.settled.recv().await.unwrap();
        let booked = records.take_one().await;
        let delivered = num_chunks as u32;
        assert_eq!(booked.summary(), ("caller_left", usage.prompt_tokens, usage.completion_tokens, delivered));
        assert!(usage.completion_tokens >= delivered, "{usage:?} after {num_chunks}");
        assert_eq!(booked.text("request.id"), job.request.as_str());
        assert!(booked.text("adapters").contains(&crate::stack::sst2().to_string()));
        let charged = (booked.number("charge.input"), booked.number("charge.output"));
        assert_eq!(charged, (usage.prompt_tokens, delivered), "prefill had begun");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_a_node_takes_its_job_is_not_charged() {
    let records = Records::listen();
    let stack = Stack::without_node(GatewayLimits::default(), QueueConfig::default()).await;
    full_node(&stack).await;
    let body = stack.open(CHAT, chat(true, &json!({"n": 2}))).await;
    drop(body);
    for booked in records.take(2).await {
        assert_eq!((booked.text("outcome"), booked.number("attempts")), ("caller_left", 0));
        assert_eq!((booked.number("charge.input"), booked.number("charge.output")), (0, 0));
    }
    assert_eq!(souk_queue::JobQueue::stats(stack.queue.as_ref(), pool()).await.unwrap().queued, 0);
}

/// A node that lives and takes nothing.
async fn full_node(stack: &Stack) {
    let node = souk_protocol::NodeId::from_stored("node_full");
    let status = NodeStatus::new(node, pool());
    souk_queue::JobQueue::heartbeat(stack.queue.as_ref(), status).await.unwrap();
}

fn usage_of(reply: &HttpAnswer, stream: bool) -> (u32, u32) {
    let usage = if stream {
        let events = reply.events();
        events.iter().rev().find_map(|event| event.get("usage").filter(|usage| usage.is_object()).cloned()).unwrap()
    } else {
        reply.json()["usage"].clone()
    };
    let count = |name: &str| u32::try_from(usage[name].as_u64().unwrap()).unwrap();
    (count("prompt_tokens"), count("completion_tokens"))
}

#[tokio::test]
async fn whole_answers_and_streams_are_counted_alike_and_as_the_caller_is_told() {
    let records = Records::listen();
    for (more, outcome, expected) in [
        (json!({}), "stop", num_tokens()),
        (json!({"max_tokens": 3}), "length", 3),
        // Complete with the second token.
        (json!({"stop": " w"}), "stop", 2),
    ] {
        for stream in [false, true] {
            let stack = Stack::start(says(SAYING)).await;
            let mut more = more.clone();
            if stream {
                more["stream_options"] = json!({"include_usage": true});
            }
            let reply = stack.post(CHAT, chat(stream, &more)).await;
            let (prompt, completion) = usage_of(&reply, stream);
            let booked = records.take_one().await;
            let computed = booked.number("tokens.computed");
            assert_eq!(booked.summary(), (outcome, prompt, computed, expected), "{more}");
            assert_eq!(completion, expected, "{more}");
            assert!(computed >= expected, "{more}");
            assert_eq!((booked.number("charge.input"), booked.number("charge.output")), (prompt, expected));
        }
    }
}

#[tokio::test]
async fn tokens_behind_a_stop_string_are_not_delivered_even_if_they_came_with_it() {
    let records = Records::listen();
    let script: Script = Arc::new(|job: &GenerateJob, _| {
        let mut events = answer(job, &tokenizer().encode(SAYING).unwrap());
        let mut all = Vec::new();
        events.retain(|step| match step {
            Step::Send(JobEvent::Tokens { tokens, .. }) => {
                all.extend(tokens.clone());
                false
            }
            _ => true,
        });
        events.insert(1, Step::Send(JobEvent::Tokens { offset: 0, tokens: all }));
        events
    });
    for stream in [false, true] {
        let stack = Stack::start(Arc::clone(&script)).await;
        stack.post(CHAT, chat(stream, &json!({"stop": " w"}))).await;
        let booked = records.take_one().await;
        assert_eq!((booked.number("tokens.computed"), booked.number("tokens.delivered")), (num_tokens(), 2));
    }
}

#[tokio::test]
async fn each_choice_of_each_prompt_is_a_job_of_its_own() {
    let records = Records::listen();
    let stack = Stack::start(says(SAYING)).await;
    let body = json!({"model": "tiny", "prompt": ["hello", "hello world"], "n": 2, "max_tokens": 4});
    let reply = stack.post(TEXT, body).await;
    let (prompt, completion) = usage_of(&reply, false);
    let booked = records.take(4).await;
    let sum = |field: &str| booked.iter().map(|line| line.number(field)).sum::<u32>();
    assert_eq!(completion, sum("tokens.delivered"));
    assert_eq!(prompt * 2, sum("tokens.prompt"), "each prompt stands in both of its choices");
    let indices: Vec<_> = booked.iter().map(|line| line.number("job.index")).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert!(booked.iter().all(|line| line.text("outcome") == "length" && line.text("adapters") == "[]"));
}

#[tokio::test]
async fn a_deadline_is_counted_by_what_had_come_until_then() {
    let records = Records::listen();
    let limits = GatewayLimits { request_timeout: Duration::from_millis(300), ..GatewayLimits::default() };
    // As a node does: it ends the job at the deadline and says so.
    let late = |num_tokens: usize| -> Script {
        Arc::new(move |job: &GenerateJob, _| {
            let mut steps = answer(job, &tokenizer().encode(SAYING).unwrap());
            steps.truncate(1 + num_tokens);
            steps.push(Step::Wait(Duration::from_millis(300)));
            steps.push(Step::Send(JobEvent::Failed(JobFailure::DeadlineExceeded)));
            steps
        })
    };
    for (num_tokens, outcome) in [(0, "timed_out"), (3, "deadline")] {
        for stream in [false, true] {
            let stack = Stack::with(late(num_tokens), limits.clone(), QueueConfig::default()).await;
            let reply = stack.post(CHAT, chat(stream, &json!({}))).await;
            assert!(reply.text.contains("timeout"), "{}", reply.text);
            let booked = records.take_one().await;
            let num_tokens = num_tokens as u32;
            let prompt = booked.number("tokens.prompt");
            assert_eq!(booked.summary(), (outcome, prompt, num_tokens, num_tokens));
            let charged = if num_tokens == 0 { (0, 0) } else { (prompt, num_tokens) };
            assert_eq!((booked.number("charge.input"), booked.number("charge.output")), charged);
        }
    }
    let stack = Stack::without_node(limits, QueueConfig::default()).await;
    full_node(&stack).await;
    assert_eq!(stack.post(CHAT, chat(false, &json!({}))).await.status, 504);
    let booked = records.take_one().await;
    assert_eq!((booked.text("outcome"), booked.number("attempts")), ("timed_out", 0), "no node took it");
}

#[tokio::test]
async fn a_lost_node_counts_its_tokens_once() {
    let records = Records::listen();
    let script: Script = Arc::new(|job, attempt| {
        let mut steps = answer(job, &tokenizer().encode(SAYING).unwrap());
        if attempt == 1 {
            steps.truncate(4);
            steps.push(Step::Hang);
        }
        steps
    });
    let queue = QueueConfig { lease: Duration::from_millis(300), ..QueueConfig::default() };
    let stack = Stack::with(script, GatewayLimits::default(), queue).await;
    let reply = stack.post(CHAT, chat(true, &json!({}))).await;
    assert_eq!(reply.streamed_text(0), SAYING);
    let booked = records.take_one().await;
    assert_eq!(booked.summary(), ("stop", booked.number("tokens.prompt"), num_tokens(), num_tokens()));
    assert_eq!(booked.number("attempts"), 2);
}

#[tokio::test]
async fn our_errors_are_free_and_say_whether_something_had_come() {
    let records = Records::listen();
    let fails = |after: usize, failure: JobFailure| -> Script {
        Arc::new(move |job: &GenerateJob, _| {
            let mut steps = answer(job, &tokenizer().encode(SAYING).unwrap());
            steps.truncate(1 + after);
            steps.push(Step::Send(JobEvent::Failed(failure.clone())));
            steps
        })
    };
    let limit = JobFailure::ConstraintLimit { num_tokens: 2, reason: "too many items".to_owned() };
    for (after, failure, outcome, is_free) in [
        (0, JobFailure::Internal("no".to_owned()), "failed", true),
        (2, JobFailure::Internal("no".to_owned()), "broken", true),
        (0, JobFailure::Constraint("no such class".to_owned()), "refused", true),
        (2, limit, "dead_end", false),
    ] {
        let stack = Stack::start(fails(after, failure)).await;
        // The other choice is of no use without the one that fails, and ends as it does.
        stack.post(CHAT, chat(false, &json!({"n": 2}))).await;
        let booked = records.take(2).await;
        assert!(booked.iter().any(|line| line.text("outcome") == outcome), "{booked:?}");
        assert!(booked.iter().all(|line| line.text("outcome") != "caller_left"), "{booked:?}");
        let charged = booked.iter().map(|line| line.number("charge.output")).sum::<u32>();
        assert_eq!(charged == 0, is_free, "{booked:?}");
    }
    let gives_up: Script = Arc::new(|_, _| vec![Step::Fail("the disk is on fire")]);
    let stack = Stack::start(gives_up).await;
    assert_eq!(stack.post(CHAT, chat(false, &json!({}))).await.status, 500);
    let booked = records.take_one().await;
    assert_eq!((booked.text("outcome"), booked.number("attempts")), ("failed", 3));
}

#[tokio::test]
async fn a_request_that_the_queue_refuses_in_part_is_free() {
    let records = Records::listen();
    let queue = QueueConfig { max_in_flight_per_tenant: Some(1), ..QueueConfig::default() };
    let stack = Stack::with(Arc::new(|_: &GenerateJob, _| vec![Step::Hang]), GatewayLimits::default(), queue).await;
    assert_eq!(stack.post(CHAT, chat(false, &json!({"n": 2}))).await.status, 429);
    let booked = records.take_one().await;
    assert_eq!((booked.text("outcome"), booked.number("charge.input")), ("refused", 0));
}

#[tokio::test]
async fn what_is_cut_off_at_the_end_of_a_drain_is_counted_as_drained() {
    let records = Records::listen();
    let stack = Stack::start(slowly(Duration::from_millis(50))).await;
    let mut body = stack.open(CHAT, chat(true, &json!({}))).await;
    crate::stack::read_until(&mut body, "hello").await;
    let drained = tokio::time::timeout(Duration::from_millis(20), stack.gateway.drain()).await;
    assert!(drained.is_err(), "the answer is under way");
    stack.gateway.cut_off().await;
    let rest = crate::stack::read_until(&mut body, "shutting_down").await;
    assert!(rest.contains("event: error"), "{rest}");
    drop(body);
    assert_eq!(records.take_one().await.text("outcome"), "drained");
    tokio::time::timeout(Duration::from_secs(5), stack.gateway.drain()).await.expect("all jobs are settled");
}
