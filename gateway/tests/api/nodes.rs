//! What the gateway makes of what nodes say of themselves.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use souk_gateway::GatewayLimits;
use souk_protocol::{Digest, KeyId, NodeId};
use souk_queue::{AdapterTier, NodeCapacity, NodeLimits, NodeStatus, QueueConfig, ResidentAdapter};

use crate::stack::{HttpAnswer, KEY, OPERATORS_KEY, OTHER_KEY, Stack, pool, request, says, sst2};

const CHAT: &str = "/v1/chat/completions";

fn body(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": true})
}

async fn stack() -> Stack {
    Stack::without_node(GatewayLimits::default(), QueueConfig::default()).await
}

/// A node that lives, has these adapters on its device, and takes nothing.
fn holding(name: &str, adapters: &[Digest]) -> NodeStatus {
    let on_device = |digest: &Digest| ResidentAdapter { digest: *digest, tier: AdapterTier::Device };
    NodeStatus {
        capacity: NodeCapacity { places: 8, kv_blocks: 0, adapter_bytes: 1 << 20 },
        resident: adapters.iter().map(on_device).collect(),
        ..NodeStatus::new(NodeId::from_stored(name), pool())
    }
}

/// How many jobs wait in each lane, by its name.
async fn lanes(stack: &Stack) -> Vec<(String, usize)> {
    let stats = stack.queue.stats(pool()).await.unwrap();
    let name = |lane: Option<NodeId>| lane.map_or_else(|| "any".to_owned(), |lane| lane.to_string());
    stats.lanes.into_iter().filter(|lane| lane.queued > 0).map(|lane| (name(lane.lane), lane.queued)).collect()
}

#[tokio::test]
async fn jobs_go_where_their_adapter_is_said_to_be_and_those_of_the_base_anywhere() {
    for (here, other) in [("node_a", "node_b"), ("node_b", "node_a")] {
        let stack = stack().await;
        stack.queue.heartbeat(holding(here, &[sst2()])).await.unwrap();
        stack.queue.heartbeat(holding(other, &[])).await.unwrap();
        let _answer = stack.open(CHAT, body("acme/sst2")).await;
        assert_eq!(lanes(&stack).await, [(here.to_owned(), 1)]);
        let _of_base = stack.open(CHAT, body("tiny")).await;
        assert_eq!(lanes(&stack).await, [("any".to_owned(), 1), (here.to_owned(), 1)]);
    }
}

#[tokio::test]
async fn what_was_sent_counts_before_the_node_says_so_and_no_more_once_it_has_ended() {
    let stack = stack().await;
    let places = NodeCapacity { places: 1, kv_blocks: 0, adapter_bytes: 0 };
    for name in ["node_a", "node_b", "node_c"] {
        stack.queue.heartbeat(NodeStatus { capacity: places, ..holding(name, &[]) }).await.unwrap();
    }
    let first = stack.open(CHAT, body("acme/sst2")).await;
    let home = lanes(&stack).await;
    let second = stack.open(CHAT, body("acme/sst2")).await;
    let full = lanes(&stack).await;
    assert_eq!(full.iter().map(|(_, queued)| *queued).collect::<Vec<_>>(), [1, 1], "its one place is taken: {full:?}");
    drop((first, second));
    until("they have left", async || lanes(&stack).await.is_empty()).await;
    let _again = stack.open(CHAT, body("acme/sst2")).await;
    assert_eq!(lanes(&stack).await, home);
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test]
async fn where_an_adapter_is_warm_is_for_its_owner_and_for_operators() {
    let stack = stack().await;
    let styled = Digest::of(b"styled");
    let mut in_host_memory = holding("node_b", &[styled]);
    in_host_memory.resident[0].tier = AdapterTier::Host;
    stack.queue.heartbeat(holding("node_a", &[styled, sst2()])).await.unwrap();
    stack.queue.heartbeat(in_host_memory).await.unwrap();
    until("the gateway has seen both", async || {
        stack.send(request("GET", "/ready", KEY, String::new())).await.json()["bases"][0]["nodes"] == 2
    })
    .await;
    let look = async |key: &str, model: &str| {
        let answer = stack.send(request("GET", &format!("/v1/models/{model}"), key, String::new())).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json().get("warm").cloned()
    };
    let everywhere = json!([{"node": "node_a", "tier": "device"}, {"node": "node_b", "tier": "host"}]);
    assert_eq!(look(KEY, "acme/styled").await, Some(everywhere.clone()));
    assert_eq!(look(OPERATORS_KEY, "acme/styled").await, Some(everywhere));
    assert_eq!(look(OTHER_KEY, "acme/styled").await, None, "it may call it and not know where it is");
    assert_eq!(look(KEY, "acme/sst2").await, Some(json!([{"node": "node_a", "tier": "device"}])));
    assert_eq!(look(KEY, "acme/rude").await, Some(json!([])), "nowhere");
    assert_eq!(look(KEY, "tiny").await, None);
}

#[tokio::test]
async fn a_node_of_another_protocol_version_is_no_node() {
    let stack = stack().await;
    stack.queue.heartbeat(NodeStatus { protocol: 99, ..holding("node_a", &[]) }).await.unwrap();
    let refused = stack.post(CHAT, body("acme/sst2")).await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"]["code"].as_str()), (503, Some("no_node")));
}

#[tokio::test]
async fn a_pool_takes_what_its_smallest_node_takes() {
    let stack = stack().await;
    let limits = |context_tokens, max_rank| NodeLimits { context_tokens, max_rank };
    stack.queue.heartbeat(NodeStatus { limits: limits(4096, 8), ..holding("node_a", &[]) }).await.unwrap();
    stack.queue.heartbeat(NodeStatus { limits: limits(16, 64), ..holding("node_b", &[]) }).await.unwrap();
    until("the gateway has seen both", async || {
        stack.send(request("GET", "/ready", KEY, String::new())).await.json()["bases"][0]["nodes"] == 2
    })
    .await;
    let long = json!({"model": "tiny", "prompt": "hello", "max_tokens": 30});
    let refused = stack.post("/v1/completions", long).await;
    assert_eq!(refused.status, 400);
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "context_length_exceeded");
    assert!(error["message"].as_str().unwrap().contains("16"), "{error}");
    // An adapter of rank 16, where any node may get the job and one takes 8.
    let refused = stack.post(CHAT, body("acme/sst2")).await;
    let error = &refused.json()["error"];
    assert_eq!((refused.status.as_u16(), &error["code"]), (400, &json!("request_too_large_for_node")));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("needs 16 ranks in an adapter and the node has 8"), "{error}");
    assert!(lanes(&stack).await.is_empty(), "nothing was queued");
}

fn waiting_for(seconds: u64) -> GatewayLimits {
    GatewayLimits { wait_for_node: Duration::from_secs(seconds), ..GatewayLimits::default() }
}

#[tokio::test]
async fn a_request_without_a_node_waits_in_the_queue_for_the_first() {
    let stack = Arc::new(Stack::without_node(waiting_for(30), QueueConfig::default()).await);
    let asked = {
        let stack = Arc::clone(&stack);
        let mut body = body("acme/sst2");
        body["stream"] = json!(false);
        tokio::spawn(async move { stack.post(CHAT, body).await })
    };
    until("it waits where an autoscaler sees it", async || lanes(&stack).await == [("any".to_owned(), 1)]).await;
    let figures = stack.send(request("GET", "/metrics", KEY, String::new())).await.text;
    assert!(figures.contains(r#"souk_gateway_waiting_for_node_requests{base="tiny"}"#), "{figures}");
    stack.add_node(says("hello world")).await;
    let answer = asked.await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.json()["choices"][0]["message"]["content"].as_str()),
        (200, Some("hello world"))
    );
}

#[tokio::test]
async fn what_no_node_comes_for_is_refused_after_the_wait_and_leaves_nothing() {
    let stack = Stack::without_node(waiting_for(1), QueueConfig::default()).await;
    let refused = stack.post(CHAT, body("acme/sst2")).await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"]["code"].as_str()), (503, Some("no_node")));
    until("the queue is empty", async || lanes(&stack).await.is_empty()).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_for_a_node_takes_its_job_along() {
    let stack = Arc::new(Stack::without_node(waiting_for(60), QueueConfig::default()).await);
    let asked = {
        let stack = Arc::clone(&stack);
        tokio::spawn(async move { stack.post(CHAT, body("acme/sst2")).await })
    };
    until("it waits", async || lanes(&stack).await.len() == 1).await;
    asked.abort();
    until("the queue is empty", async || lanes(&stack).await.is_empty()).await;
}

/// A request that waits for a node, for a minute unless something ends it, and its answer.
async fn waiting(limits: GatewayLimits) -> (Arc<Stack>, tokio::task::JoinHandle<HttpAnswer>) {
    let limits = GatewayLimits { wait_for_node: Duration::from_secs(600), ..limits };
    let stack = Arc::new(Stack::without_node(limits, QueueConfig::default()).await);
    let asked = {
        let stack = Arc::clone(&stack);
        let body = json!({"model": "acme/sst2", "prompt": ["hello", "world"], "max_tokens": 3, "n": 2});
        tokio::spawn(async move { stack.post("/v1/completions", body).await })
    };
    until("it waits", async || lanes(&stack).await == [("any".to_owned(), 4)]).await;
    (stack, asked)
}

#[tokio::test]
async fn what_ends_a_request_that_waits_for_a_node_ends_its_wait() {
    let (stack, asked) = waiting(GatewayLimits::default()).await;
    stack.gateway.take_down(&sst2()).await;
    let answer = asked.await.unwrap();
    assert_eq!((answer.status.as_u16(), code(&answer).as_str()), (410, "model_taken_down"));
    until("the queue is empty", async || lanes(&stack).await.is_empty()).await;

    let (stack, asked) = waiting(GatewayLimits::default()).await;
    stack.gateway.end_key(&KeyId::from_stored("key_1")).await;
    let answer = asked.await.unwrap();
    assert_eq!((answer.status.as_u16(), code(&answer).as_str()), (401, "key_revoked"));
    until("the queue is empty", async || lanes(&stack).await.is_empty()).await;

    let soon = GatewayLimits { request_timeout: Duration::from_secs(4), ..GatewayLimits::default() };
    let (stack, asked) = waiting(soon).await;
    let answer = asked.await.unwrap();
    assert_eq!((answer.status.as_u16(), code(&answer).as_str()), (504, "timeout"));
    until("the queue is empty", async || lanes(&stack).await.is_empty()).await;

    let (stack, asked) = waiting(GatewayLimits::default()).await;
    stack.gateway.cut_off().await;
    assert_eq!(asked.await.unwrap().status, 503);
    until("the queue is empty", async || lanes(&stack).await.is_empty()).await;
}

fn code(answer: &HttpAnswer) -> String {
    answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}
