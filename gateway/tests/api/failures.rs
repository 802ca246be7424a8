//! Nodes that fail, are lost or are slow.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use souk_gateway::GatewayLimits;
use souk_protocol::{GenerateJob, JobEvent, JobFailure};
use souk_queue::QueueConfig;

use crate::stack::{Script, Stack, Step, answer, says, tokenizer};

const PATH: &str = "/v1/chat/completions";

fn body(stream: bool) -> Value {
    json!({"model": "acme/sst2", "messages": [{"role": "user", "content": "hello"}], "stream": stream})
}

fn fails_with(failure: JobFailure) -> Script {
    Arc::new(move |job: &GenerateJob, _| {
        let mut steps = answer(job, &tokenizer().encode("hello world").unwrap());
        steps.truncate(3);
        steps.push(Step::Send(JobEvent::Failed(failure.clone())));
        steps
    })
}

#[tokio::test]
async fn each_failure_has_its_status() {
    for (failure, status, code) in [
        (JobFailure::Adapter("no such blob".to_owned()), 502, "adapter_not_loaded"),
        (JobFailure::AdapterBusy("no room within 10000 ms".to_owned()), 503, "overloaded"),
        (JobFailure::NotFinite { position: 3 }, 422, "output_not_finite"),
        (
            JobFailure::TooLarge { unit: "KV blocks".to_owned(), needed: 9, available: 4 },
            400,
            "request_too_large_for_node",
        ),
        (JobFailure::Constraint("no such rule".to_owned()), 400, "invalid_constraint"),
        (
            JobFailure::ConstraintLimit { num_tokens: 3, reason: "too many items".to_owned() },
            400,
            "constraint_limit_exceeded",
        ),
        (JobFailure::TakenDown, 410, "model_taken_down"),
        (JobFailure::DeadlineExceeded, 504, "timeout"),
        (JobFailure::ShuttingDown, 503, "shutting_down"),
        (JobFailure::Internal("secret".to_owned()), 500, "internal_error"),
    ] {
        let stack = Stack::start(fails_with(failure)).await;
        let reply = stack.post(PATH, body(false)).await;
        assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (status, Some(code)));
        assert!(!reply.text.contains("secret"));
    }
}

#[tokio::test]
async fn a_constraint_that_cannot_be_used_is_the_callers_fault_before_any_event() {
    let refuses: Script = Arc::new(|job: &GenerateJob, _| {
        assert_eq!(job.constraint.as_ref().unwrap().kind(), "regex");
        vec![Step::Send(JobEvent::Failed(JobFailure::Constraint("no such class".to_owned())))]
    });
    let stack = Stack::start(refuses).await;
    for stream in [false, true] {
        let mut body = body(stream);
        body["guided_regex"] = json!("[[:thing:]]");
        let reply = stack.post(PATH, body).await;
        let error = &reply.json()["error"];
        assert_eq!((reply.status.as_u16(), error["param"].as_str()), (400, Some("guided_regex")), "{error}");
        assert_eq!(
            (error["type"].as_str(), error["code"].as_str()),
            (Some("invalid_request_error"), Some("invalid_constraint"))
        );
        assert!(error["message"].as_str().unwrap().contains("no such class"));
    }
}

#[tokio::test]
async fn a_failure_in_mid_stream_is_an_error_event_and_the_end() {
    let stack = Stack::start(fails_with(JobFailure::NotFinite { position: 3 })).await;
    let reply = stack.post(PATH, body(true)).await;
    assert_eq!(reply.streamed_text(0), "hello w");
    let last = reply.text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("event: error\ndata: {\"error\":{\"message\":"), "{last}");
    assert!(!reply.text.contains("[DONE]"));
}

#[tokio::test]
async fn an_attempt_that_fails_is_followed_by_another_without_gap_or_repeat() {
    let script: Script = Arc::new(|job, attempt| {
        let mut steps = answer(job, &tokenizer().encode("hello world").unwrap());
        if attempt == 1 {
            steps.truncate(3);
            steps.push(Step::Wait(Duration::from_millis(50)));
            steps.push(Step::Fail("the power went"));
        }
        steps
    });
    for stream in [true, false] {
        let mut stack = Stack::start(Arc::clone(&script)).await;
        let reply = stack.post(PATH, body(stream)).await;
        let text = if stream {
            reply.streamed_text(0)
        } else {
            reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
        };
        assert_eq!(text, "hello world");
        let (first, second) = (stack.jobs.recv().await.unwrap(), stack.jobs.recv().await.unwrap());
        assert_eq!(first.id, second.id);
        assert_eq!(second.sampling.seed, first.sampling.seed);
    }
}

#[tokio::test]
async fn a_node_lost_in_mid_answer_is_not_seen_by_the_client() {
    let script: Script = Arc::new(|job, attempt| {
        let mut steps = answer(job, &tokenizer().encode("hello world").unwrap());
        if attempt == 1 {
            steps.truncate(4);
            steps.push(Step::Hang);
        }
        steps
    });
    // The node does not renew its leases, so the first runs out while it hangs.
    let queue = QueueConfig { lease: Duration::from_millis(300), ..QueueConfig::default() };
    let mut stack = Stack::with(script, GatewayLimits::default(), queue).await;
    let reply = stack.post(PATH, body(true)).await;
    assert_eq!(reply.streamed_text(0), "hello world");
    assert!(reply.text.ends_with("data: [DONE]\n\n"), "{}", reply.text);
    let (first, second) = (stack.jobs.recv().await.unwrap(), stack.jobs.recv().await.unwrap());
    assert!(first.resume.is_empty());
    // The tokens that the client has are handed in unless the other attempt was quicker to start.
    let whole = tokenizer().encode("hello world").unwrap();
    assert!(whole.starts_with(&second.resume), "{:?}", second.resume);
}

/// As `hello world` is said by a node that is lost after so many tokens, and by others.
fn lost_after(num_tokens: usize) -> Script {
    Arc::new(move |job: &GenerateJob, attempt| {
        let mut steps = answer(job, &tokenizer().encode("hello world").unwrap());
        if attempt == 1 {
            // Behind the start, and the scores of the prompt where they are wanted.
            let begin = if job.prompt_logprobs.is_some() { 3 } else { 1 };
            steps.truncate(begin + num_tokens);
            steps.push(Step::Lose);
        }
        steps
    })
}

#[tokio::test]
async fn a_lost_stream_of_a_node_is_no_more_than_a_pause_in_whatever_is_asked() {
    let whole = tokenizer().encode("hello world").unwrap();
    for (asked, num_choices) in
        [(json!({}), 1), (json!({"n": 3, "logprobs": true, "top_logprobs": 2}), 3), (json!({"stop": ["wor"]}), 1)]
    {
        for num_tokens in [0, 1, 2] {
            let mut body = body(true);
            body.as_object_mut().unwrap().extend(asked.as_object().unwrap().clone());
            body["stream_options"] = json!({"include_usage": true});
            let undisturbed = Stack::start(says("hello world")).await.post(PATH, body.clone()).await;
            let mut stack = Stack::start(lost_after(num_tokens)).await;
            let reply = stack.post(PATH, body).await;
            for choice in 0..num_choices {
                assert_eq!(reply.streamed_text(choice as u64), undisturbed.streamed_text(choice as u64), "{asked}");
            }
            let usage = |text: &str| text.split("\"usage\":{").nth(1).map(str::to_owned);
            assert_eq!(usage(&reply.text), usage(&undisturbed.text), "{asked}: each token counts once");
            let logprobs = |text: &str| text.matches("\"top_logprobs\":[").count();
            assert_eq!(logprobs(&reply.text), logprobs(&undisturbed.text));
            assert!(reply.text.ends_with("data: [DONE]\n\n"), "{}", reply.text);
            let mut jobs = Vec::new();
            for _ in 0..2 * num_choices {
                jobs.push(stack.jobs.recv().await.unwrap());
            }
            let resumed = jobs.iter().filter(|job| !job.resume.is_empty());
            for job in resumed.clone() {
                assert_eq!(job.resume, whole[..num_tokens], "with all that has come, before anybody could claim it");
            }
            assert_eq!(resumed.count(), if num_tokens > 0 { num_choices } else { 0 });
        }
    }
}

#[tokio::test]
async fn a_job_that_keeps_failing_is_given_up_without_telling_why() {
    let script: Script = Arc::new(|_, _| vec![Step::Fail("secret reason")]);
    let stack = Stack::start(script).await;
    let reply = stack.post(PATH, body(false)).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (500, Some("given_up")));
    assert!(!reply.text.contains("secret"), "{}", reply.text);
}

#[tokio::test]
async fn a_job_that_waits_beyond_its_deadline_is_504() {
    let limits = GatewayLimits { request_timeout: Duration::from_millis(300), ..GatewayLimits::default() };
    // A node that lives and takes nothing.
    let stack = Stack::without_node(limits, QueueConfig::default()).await;
    let status = souk_queue::NodeStatus::new(souk_protocol::NodeId::from_stored("node_full"), crate::stack::pool());
    souk_queue::JobQueue::heartbeat(stack.queue.as_ref(), status).await.unwrap();
    let reply = stack.post(PATH, body(false)).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (504, Some("timeout")));
}

#[tokio::test]
async fn draining_lets_running_answers_end_and_refuses_new_ones() {
    let script: Script = Arc::new(|job, _| {
        let mut steps = answer(job, &tokenizer().encode("hello world").unwrap());
        steps.insert(3, Step::Wait(Duration::from_millis(500)));
        steps
    });
    let stack = Stack::start(script).await;
    let mut stream = stack.open(PATH, body(true)).await;
    crate::stack::read_until(&mut stream, "hello").await;
    let gateway = stack.gateway.clone();
    let drained = tokio::spawn(async move { gateway.drain().await });
    while !stack.gateway.is_draining() {
        tokio::task::yield_now().await;
    }
    let refused = stack.post(PATH, body(false)).await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"]["code"].as_str()), (503, Some("shutting_down")));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(stack.get("/ready").await.status, 503);
    assert_eq!(stack.get("/health").await.status, 200);
    assert!(!drained.is_finished());
    crate::stack::read_until(&mut stream, "[DONE]").await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(5), drained).await.expect("drained").unwrap();
}

#[tokio::test]
async fn an_answer_of_nothing_is_an_answer() {
    let stack = Stack::start(says("")).await;
    let reply = stack.post(PATH, body(false)).await.json();
    assert_eq!(reply["choices"][0]["message"]["content"], "");
    assert_eq!(reply["usage"]["completion_tokens"], 1);
}
