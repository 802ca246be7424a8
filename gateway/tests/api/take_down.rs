//! A version that is taken down, or a key that is revoked, ends its answers at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use souk_gateway::GatewayLimits;
use souk_protocol::{AdapterName, Deprived, Digest, KeyId, TenantId};
use souk_queue::{NodeOrder, NodeStatus, OrderNumber, QueueConfig};

use crate::records::Records;
use crate::stack::{Script, Stack, Step, answer, pool, read_until, sst2, tokenizer};

const CHAT: &str = "/v1/chat/completions";
const WITHIN: Duration = Duration::from_secs(1);

fn body(model: &str, stream: bool) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": stream})
}

/// Says a word and then nothing until it is cancelled.
fn pauses() -> Script {
    Arc::new(|job, _| {
        let mut steps = answer(job, &tokenizer().encode("hello world").unwrap());
        steps.truncate(3);
        steps.push(Step::Hang);
        steps
    })
}

#[tokio::test]
async fn running_answers_of_the_version_end_with_410s_reason_and_no_others() {
    let records = Records::listen();
    let mut stack = Stack::start(pauses()).await;
    let mut of_adapter = stack.open(CHAT, body("acme/sst2", true)).await;
    let mut of_base = stack.open(CHAT, body("tiny", true)).await;
    read_until(&mut of_adapter, "hello").await;
    read_until(&mut of_base, "hello").await;
    let whole = {
        let (router, request) = (
            stack.router.clone(),
            crate::stack::request("POST", CHAT, crate::stack::KEY, body("acme/sst2", false).to_string()),
        );
        tokio::spawn(async move { tower::ServiceExt::oneshot(router, request).await.unwrap() })
    };
    for _ in 0..3 {
        stack.jobs.recv().await.unwrap();
    }
    // The node comes to its pause in each of them.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    stack.gateway.take_down(&Digest::of(b"another version")).await;
    assert!(!whole.is_finished());
    stack.gateway.take_down(&sst2()).await;
    let rest = read_until(&mut of_adapter, "model_taken_down").await;
    assert!(rest.contains("event: error") && rest.contains("The model `acme/sst2` was taken down."), "{rest}");
    assert!(futures::StreamExt::next(&mut of_adapter).await.is_none(), "and that is its end");
    let whole = whole.await.unwrap();
    assert_eq!(whole.status(), 410);
    assert_eq!(whole.headers()["x-should-retry"], "false");
    let booked = records.take(2).await;
    assert!(asked.elapsed() < WITHIN, "{:?}", asked.elapsed());
    for line in booked {
        assert_eq!(line.text("outcome"), "taken_down");
        assert_eq!(line.number("tokens.computed"), 2, "the node has let go");
    }
    let settled = [stack.settled.recv().await.unwrap(), stack.settled.recv().await.unwrap()];
    assert!(settled.iter().all(|(.., usage)| usage.completion_tokens == 2), "{settled:?}");
    drop(of_base);
    assert_eq!(records.take_one().await.text("outcome"), "caller_left");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_leaves_the_batch_too() {
    let mut stack = Stack::start(pauses()).await;
    let unread = stack.open(CHAT, body("acme/sst2", true)).await;
    let job = stack.jobs.recv().await.unwrap();
    stack.gateway.take_down(&sst2()).await;
    let cancelled = tokio::time::timeout(WITHIN, stack.cancelled.recv()).await.expect("at once").unwrap();
    assert_eq!(cancelled.job, job.id);
    drop(unread);
}

#[tokio::test]
async fn a_queued_job_of_the_version_never_starts() {
    let records = Records::listen();
    let stack = Stack::without_node(GatewayLimits::default(), QueueConfig::default()).await;
    let node = souk_protocol::NodeId::from_stored("node_full");
    let status = NodeStatus::new(node, pool());
    stack.queue.heartbeat(status).await.unwrap();
    let mut stream = stack.open(CHAT, body("acme/sst2", true)).await;
    assert_eq!(stack.queue.stats(pool()).await.unwrap().queued, 1);
    stack.gateway.take_down(&sst2()).await;
    assert_eq!(stack.queue.stats(pool()).await.unwrap().queued, 0);
    read_until(&mut stream, "model_taken_down").await;
    let booked = records.take_one().await;
    assert_eq!(
        (booked.text("outcome"), booked.number("attempts"), booked.number("charge.input")),
        ("taken_down", 0, 0)
    );
}

#[tokio::test]
async fn a_request_that_was_resolved_before_the_take_down_is_refused_after_it() {
    let stack = Stack::start(pauses()).await;
    // The registry of the tests goes on to resolve the version, as it would have just before.
    stack.gateway.take_down(&sst2()).await;
    for stream in [false, true] {
        let reply = stack.post(CHAT, body("acme/sst2", stream)).await;
        assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (410, Some("model_taken_down")));
    }
}

#[tokio::test]
async fn nodes_are_ordered_to_let_go_of_the_version() {
    let stack = Stack::start(pauses()).await;
    stack.gateway.take_down(&sst2()).await;
    let orders = stack.queue.next_orders(pool(), OrderNumber::default(), WITHIN).await.unwrap();
    let orders: Vec<_> = orders.into_iter().map(|order| order.order).collect();
    assert_eq!(orders, [NodeOrder::TakeDown(sst2())]);
}

/// The key that the tests' catalog finds behind what they present.
fn key_of_tests() -> KeyId {
    KeyId::from_stored("key_1")
}

#[tokio::test]
async fn a_revoked_keys_answers_end_with_its_reason_and_are_charged_as_delivered() {
    let records = Records::listen();
    let mut stack = Stack::start(pauses()).await;
    let mut stream = stack.open(CHAT, body("acme/sst2", true)).await;
    read_until(&mut stream, "hello").await;
    let whole = {
        let (router, request) = (
            stack.router.clone(),
            crate::stack::request("POST", CHAT, crate::stack::KEY, body("tiny", false).to_string()),
        );
        tokio::spawn(async move { tower::ServiceExt::oneshot(router, request).await.unwrap() })
    };
    for _ in 0..2 {
        stack.jobs.recv().await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    stack.gateway.end_key(&KeyId::from_stored("another")).await;
    assert!(!whole.is_finished());
    stack.gateway.end_key(&key_of_tests()).await;
    let rest = read_until(&mut stream, "key_revoked").await;
    assert!(rest.contains("event: error"), "{rest}");
    assert!(futures::StreamExt::next(&mut stream).await.is_none(), "and that is its end");
    assert_eq!(whole.await.unwrap().status(), 401);
    for line in records.take(2).await {
        assert_eq!(line.text("outcome"), "key_revoked");
        assert_eq!(line.number("charge.output"), line.number("tokens.delivered"));
        assert!(line.number("charge.output") > 0);
    }
    assert!(asked.elapsed() < WITHIN, "{:?}", asked.elapsed());
    // A request whose key was looked at just before is refused.
    let reply = stack.post(CHAT, body("tiny", false)).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (401, Some("key_revoked")));
}

#[tokio::test]
async fn the_end_of_a_grant_ends_the_tenants_answers_of_the_adapter_and_it_may_be_granted_again() {
    let records = Records::listen();
    let mut stack = Stack::start(pauses()).await;
    let mut of_adapter = stack.open(CHAT, body("acme/sst2", true)).await;
    let mut of_base = stack.open(CHAT, body("tiny", true)).await;
    read_until(&mut of_adapter, "hello").await;
    read_until(&mut of_base, "hello").await;
    for _ in 0..2 {
        stack.jobs.recv().await.unwrap();
    }
    let sst2: AdapterName = "acme/sst2".parse().unwrap();
    let (acme, other) = (TenantId::from_stored("ten_acme"), TenantId::from_stored("ten_other"));
    let another: AdapterName = "acme/another".parse().unwrap();
    for (adapter, from) in [
        (&another, Deprived::Tenant(acme.clone())),
        (&sst2, Deprived::Tenant(other.clone())),
        (&sst2, Deprived::AllBut(acme.clone())),
    ] {
        stack.gateway.end_access(adapter, &from).await;
        for answer in [&mut of_adapter, &mut of_base] {
            // An answer's end is there to be read when the call returns.
            while let Some(frame) = futures::FutureExt::now_or_never(futures::StreamExt::next(answer)) {
                let frame = frame.expect("it goes on").unwrap();
                assert!(!String::from_utf8_lossy(&frame).contains("error"), "{adapter}, {from:?}: {frame:?}");
            }
        }
    }
    stack.gateway.end_access(&sst2, &Deprived::Tenant(acme)).await;
    let rest = read_until(&mut of_adapter, "model_taken_down").await;
    assert!(rest.contains("event: error"), "{rest}");
    assert_eq!(records.take_one().await.text("outcome"), "taken_down", "the other goes on");
    // What the registry says from now on counts.
    let mut again = stack.open(CHAT, body("acme/sst2", true)).await;
    read_until(&mut again, "hello").await;
    stack.gateway.end_access(&sst2, &Deprived::AllBut(other)).await;
    read_until(&mut again, "model_taken_down").await;
    drop(of_base);
}

#[tokio::test]
async fn a_gated_adapter_without_access_says_how_to_ask() {
    let stack = Stack::start(pauses()).await;
    let reply = stack.post(CHAT, body("acme/gated", false)).await;
    let error = &reply.json()["error"];
    assert_eq!((reply.status.as_u16(), error["code"].as_str()), (403, Some("access_needed")));
    assert!(error["message"].as_str().unwrap().contains("souk access request"), "{error}");
}
