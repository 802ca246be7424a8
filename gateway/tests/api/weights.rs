//! What tenants weigh at the gates, and how often the gateway asks for it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::response::Response;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use souk_gateway::GatewayLimits;
use souk_protocol::GenerateJob;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::stack::{Around, HttpAnswer, KEY, LOOKING_KEY, OTHER_KEY, Script, Stack, Step, request, says};

const TEXT: &str = "/v1/completions";
/// The longest body that the reserve is for.
const SMALL_BODY: usize = 64 << 10;
/// Of what is shared out: an eighth of it is the reserve, so that 35 are left.
const TOTAL: usize = 40;

/// A request that was let in and is not answered; it ends when this is dropped.
type Underway = BoxFuture<'static, Result<Response, Infallible>>;

/// The tenant of [`KEY`] weighs so much, others what is usual.
fn weighing(gate_weight: u32) -> Around {
    let around = Around::default();
    around.change_tree(|tree| tree.gate_weight = gate_weight);
    around
}

fn text() -> Value {
    json!({"model": "tiny", "prompt": [5, 5], "max_tokens": 6})
}

fn hangs() -> Script {
    Arc::new(|_: &GenerateJob, _| vec![Step::Hang])
}

async fn answer_of(response: Result<Response, Infallible>) -> HttpAnswer {
    HttpAnswer::of(response.unwrap()).await
}

/// Begins to send a body that is announced and never comes; what refuses it where it is not let in.
async fn begin_a_body(stack: &Stack, key: &str) -> Result<Underway, HttpAnswer> {
    let (reading, is_read) = oneshot::channel();
    let part = async {
        let _ = reading.send(());
        std::future::pending::<Result<Bytes, Infallible>>().await
    };
    let mut request = request("POST", TEXT, key, String::new());
    request.headers_mut().insert("content-length", SMALL_BODY.into());
    // Else what is refused would be read away, which is no reading of it.
    request.headers_mut().insert("expect", HeaderValue::from_static("100-continue"));
    *request.body_mut() = Body::from_stream(futures::stream::once(part));
    let mut answering: Underway = Box::pin(stack.router.clone().oneshot(request));
    tokio::select! {
        Ok(()) = is_read => Ok(answering),
        answered = &mut answering => Err(answer_of(answered).await),
    }
}

/// Begins a request whose answer hangs; what refuses it where it is not let in.
async fn begin_a_request(stack: &mut Stack, key: &str) -> Result<Underway, HttpAnswer> {
    let request = request("POST", TEXT, key, text().to_string());
    let mut answering: Underway = Box::pin(stack.router.clone().oneshot(request));
    tokio::select! {
        Some(_) = stack.jobs.recv() => Ok(answering),
        answered = &mut answering => Err(answer_of(answered).await),
    }
}

#[tokio::test]
async fn a_tenant_of_weight_four_has_four_times_the_bytes_of_bodies_while_both_wait() {
    let limits = GatewayLimits { max_reading_bytes: TOTAL * SMALL_BODY, ..GatewayLimits::default() };
    let stack = Stack::within_room(weighing(4), limits, hangs()).await;
    let (mut heavy, mut light) = (Vec::new(), Vec::new());
    let full = loop {
        match begin_a_body(&stack, KEY).await {
            Ok(sending) => heavy.push(sending),
            Err(refused) => break refused,
        }
    };
    assert_eq!((heavy.len(), full.status.as_u16()), (35, 503), "alone it has all but the reserve: {}", full.text);
    // Each that ends makes room for the other, until it too has its share.
    let share_taken = loop {
        match begin_a_body(&stack, OTHER_KEY).await {
            Ok(sending) => light.push(sending),
            Err(refused) if refused.status == 503 => {
                drop(heavy.pop().unwrap());
                let refused = begin_a_body(&stack, KEY).await.err().unwrap();
                assert_eq!(refused.status, 429, "{} and {}: {}", heavy.len(), light.len(), refused.text);
            }
            Err(refused) => break refused,
        }
    };
    assert_eq!((heavy.len(), light.len()), (28, 7), "{}", share_taken.text);
    assert_eq!(share_taken.status, 429, "{}", share_taken.text);
    // Nor does the heavy one stay below what it has a right to.
    drop(heavy.pop().unwrap());
    heavy.push(begin_a_body(&stack, KEY).await.unwrap_or_else(|refused| panic!("{}", refused.text)));
}

#[tokio::test]
async fn requests_under_way_are_shared_by_weight_and_a_weight_that_is_changed_counts_for_the_next() {
    let limits = GatewayLimits { max_in_flight: TOTAL, ..GatewayLimits::default() };
    let mut stack = Stack::within_room(weighing(4), limits, hangs()).await;
    let mut underway = Vec::new();
    // The heavy one takes all but the reserve, the other one of that; both wait for more.
    for (key, num_let_in) in [(KEY, 35), (OTHER_KEY, 1)] {
        for _ in 0..num_let_in {
            underway.push(begin_a_request(&mut stack, key).await.unwrap_or_else(|refused| panic!("{}", refused.text)));
        }
        let full = begin_a_request(&mut stack, key).await.err().unwrap();
        assert_eq!(full.status, 503, "{}", full.text);
    }
    for (weight, share) in [(4, 28), (2, 23), (1, 17)] {
        stack.around.change_tree(|tree| tree.gate_weight = weight);
        let refused = begin_a_request(&mut stack, KEY).await.err().unwrap();
        assert_eq!(refused.status, 429, "{}", refused.text);
        let told = format!("requests under way: you hold 35 of at most {share} and asked for 1");
        assert!(refused.text.contains(&told), "weight {weight}: {}", refused.text);
    }
}

#[tokio::test]
async fn what_binds_a_caller_is_asked_once_for_a_request_and_for_nobody_who_may_not_call() {
    let stack = Stack::within(Around::default(), says("hello world")).await;
    let messages = json!([{"role": "user", "content": "hello"}]);
    let requests = [
        ("POST", TEXT, text()),
        ("POST", TEXT, json!({"model": "acme/sst2", "prompt": ["one", "two"], "n": 2, "max_tokens": 6})),
        ("POST", "/v1/chat/completions", json!({"model": "tiny", "messages": messages})),
        ("POST", "/v1/chat/completions", json!({"model": "tiny", "messages": messages, "stream": true})),
        ("POST", "/tokenize", json!({"prompt": "hello"})),
        ("POST", "/detokenize", json!({"tokens": [5]})),
        ("GET", "/v1/models", Value::Null),
        ("GET", "/v1/models/acme/sst2", Value::Null),
        ("GET", "/tokenizer_info", Value::Null),
    ];
    let trees = &stack.around.trees;
    for (method, path, body) in requests {
        let before = trees.num_asked();
        let answer = stack.send(request(method, path, KEY, body.to_string())).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        assert_eq!(trees.num_asked() - before, 1, "{path}");
    }
    let before = trees.num_asked();
    for (key, status) in [("souk_unknown", 401), (LOOKING_KEY, 403)] {
        assert_eq!(stack.send(request("POST", TEXT, key, text().to_string())).await.status, status);
    }
    assert_eq!(trees.num_asked(), before);
}

#[tokio::test]
async fn nobody_is_let_in_whose_tree_cannot_be_known_and_its_body_is_not_read() {
    let stack = Stack::within(Around::default(), says("hello world")).await;
    stack.around.trees.go_away(true);
    let refused = begin_a_body(&stack, KEY).await.err().unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    stack.around.trees.go_away(false);
    let answer = stack.post(TEXT, text()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}
