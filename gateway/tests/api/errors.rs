//! The table of errors, and bodies that nobody meant.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use proptest::prelude::*;
use serde_json::{Value, json};
use souk_gateway::GatewayLimits;
use souk_queue::QueueConfig;

use crate::stack::{HttpAnswer, KEY, LOOKING_KEY, OTHER_KEY, Stack, Step, request, says};
use crate::support::json::{any_json, mutated};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn chat(more: &Value) -> String {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": "hello"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

fn limits() -> GatewayLimits {
    GatewayLimits { max_body_bytes: 4096, body_timeout: Duration::from_millis(200), ..GatewayLimits::default() }
}

async fn stack() -> Stack {
    let stack = Stack::with(says("hello"), limits(), QueueConfig::default()).await;
    // The gateway may have looked before the node was there, and looks again a moment later.
    stack.until_ready().await;
    stack
}

fn check_shape(answer: &HttpAnswer) -> Value {
    let body = answer.json();
    let keys: Vec<&String> = body["error"].as_object().unwrap_or_else(|| panic!("{body}")).keys().collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{body}");
    assert!(answer.headers.contains_key("x-request-id"));
    body["error"].clone()
}

#[tokio::test]
async fn every_error_has_its_status_code_and_sentence() {
    let stack = stack().await;
    let post = |path: &str, key: &str, body: String| request("POST", path, key, body);
    let bare = |builder: axum::http::request::Builder, body: &str| builder.body(Body::from(body.to_owned())).unwrap();
    let with_key = |path: &str| Request::post(path).header("authorization", format!("Bearer {KEY}"));
    let model = |model: &str| post(CHAT, KEY, chat(&json!({"model": model})));
    let field = |name: &str, value: Value| post(CHAT, KEY, chat(&json!({name: value})));
    let bare_json = |body: &str| post(TEXT, KEY, body.to_owned());
    let json_post = Request::post(CHAT).header("content-type", "application/json");
    let cases = [
        ("no key", bare(json_post, "{}")),
        ("basic auth", bare(Request::post(CHAT).header("authorization", "Basic abc"), "{}")),
        ("wrong key", post(CHAT, "souk_wrong", chat(&json!({})))),
        ("missing scope", post(CHAT, LOOKING_KEY, chat(&json!({})))),
        ("store of keys down", post(CHAT, "souk_store_down", chat(&json!({})))),
        ("unknown base", model("gpt-4")),
        ("unknown adapter", model("acme/nothing")),
        ("not a reference", model("Acme/Sst2@@")),
        ("another tenant's adapter", post(CHAT, OTHER_KEY, chat(&json!({"model": "acme/sst2"})))),
        ("not ready", model("acme/new")),
        ("taken down", model("acme/bad")),
        ("registry down", model("acme/down")),
        ("base not served", model("acme/foreign")),
        ("malformed JSON", post(CHAT, KEY, "{\"model\":".to_owned())),
        ("not an object", post(CHAT, KEY, "[1]".to_owned())),
        ("nested too deep", post(CHAT, KEY, "[".repeat(2000))),
        ("not JSON at all", bare(with_key(CHAT).header("content-type", "text/plain"), "hello")),
        ("body too large", post(CHAT, KEY, "x".repeat(5000))),
        ("no model", post(CHAT, KEY, json!({"messages": []}).to_string())),
        ("temperature too high", field("temperature", json!(2.5))),
        ("unknown parameter", field("temprature", json!(1))),
        ("unsupported format", field("response_format", json!({"type": "xml"}))),
        ("bias outside the vocabulary", field("logit_bias", json!({"99999": 1}))),
        ("prompt too long", field("messages", json!([{"role": "user", "content": "a".repeat(300)}]))),
        ("prompt far too long", field("messages", json!([{"role": "user", "content": "a".repeat(3500)}]))),
        ("answer too long", field("max_tokens", json!(255))),
        ("empty prompt", post(TEXT, KEY, json!({"model": "tiny", "prompt": ""}).to_string())),
        ("token outside the vocabulary", post(TEXT, KEY, json!({"model": "tiny", "prompt": [1, 99999]}).to_string())),
        ("no such path", request("GET", "/v1/nothing", KEY, String::new())),
        ("path that is no text", request("GET", "/v1/models/%ff", KEY, String::new())),
        ("query that is no text", request("GET", "/tokenizer_info?model=a&model=b", KEY, String::new())),
        ("number that nobody can hold", bare_json(r#"{"model":"tiny","prompt":"a","temperature":1e400}"#)),
        ("what is not JSON in a field", bare_json(r#"{"model":"tiny","prompt":"a","temperature":NaN}"#)),
        ("something behind the body", bare_json(r#"{"model":"tiny","prompt":"a"} and more"#)),
        ("wrong method", request("DELETE", CHAT, KEY, String::new())),
    ];
    let mut table = String::new();
    for (name, request) in cases {
        let answer = stack.send(request).await;
        let error = check_shape(&answer);
        let retry = answer.headers.get("x-should-retry").map_or("-", |value| value.to_str().unwrap());
        let after = answer.headers.get("retry-after").map_or("-", |value| value.to_str().unwrap());
        let (kind, code, param) = (&error["type"], &error["code"], &error["param"]);
        let status = answer.status.as_u16();
        writeln!(table, "{name}: {status} {kind} code={code} param={param} should-retry={retry} retry-after={after}")
            .unwrap();
        writeln!(table, "    {}", error["message"].as_str().unwrap()).unwrap();
    }
    insta::assert_snapshot!("errors", table);
}

#[tokio::test]
async fn a_body_that_turns_out_too_large_is_413_and_one_that_never_comes_is_408() {
    let stack = stack().await;
    let streamed = |body: Body| {
        let builder = Request::post(CHAT).header("content-type", "application/json");
        builder.header("authorization", format!("Bearer {KEY}")).body(body).unwrap()
    };
    let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1000]));
    let long = stack.send(streamed(Body::from_stream(futures::stream::iter((0..6).map(move |_| piece()))))).await;
    assert_eq!(long.status, 413);
    check_shape(&long);
    let never = futures::stream::pending::<Result<Bytes, std::io::Error>>();
    let late = stack.send(streamed(Body::from_stream(never))).await;
    assert_eq!(late.status, 408);
    let broken = futures::stream::iter([piece(), Err(std::io::Error::other("reset"))]);
    assert_eq!(stack.send(streamed(Body::from_stream(broken))).await.status, 400);
}

#[tokio::test]
async fn without_a_node_requests_are_refused_at_once() {
    let stack = Stack::without_node(GatewayLimits::default(), QueueConfig::default()).await;
    let answer = stack.send(request("POST", CHAT, KEY, chat(&json!({})))).await;
    assert_eq!((answer.status.as_u16(), answer.headers["retry-after"].to_str().unwrap()), (503, "2"));
    assert_eq!(check_shape(&answer)["code"], "no_node");
}

#[tokio::test]
async fn a_full_queue_is_429_for_the_tenant_and_503_for_all() {
    let hang = || std::sync::Arc::new(|_: &souk_protocol::GenerateJob, _| vec![Step::Hang]);
    for (queue, status, code) in [
        (QueueConfig { max_in_flight_per_tenant: Some(1), ..QueueConfig::default() }, 429, "rate_limit_exceeded"),
        (QueueConfig { max_queued: 0, ..QueueConfig::default() }, 503, "overloaded"),
    ] {
        let stack = Stack::with(hang(), GatewayLimits::default(), queue).await;
        let body = chat(&json!({"n": 2}));
        let answer = stack.send(request("POST", CHAT, KEY, body)).await;
        assert_eq!(answer.status, status);
        assert!(answer.headers.contains_key("retry-after"));
        assert_eq!(check_shape(&answer)["code"], code);
    }
}

#[tokio::test]
async fn more_requests_than_the_limit_are_refused() {
    let limits = GatewayLimits { max_in_flight: 1, ..GatewayLimits::default() };
    let hang = std::sync::Arc::new(|_: &souk_protocol::GenerateJob, _| vec![Step::Hang]);
    let stack = Stack::with(hang, limits, QueueConfig::default()).await;
    let body: Value = serde_json::from_str(&chat(&json!({"stream": true}))).unwrap();
    let open = stack.open(CHAT, body).await;
    let answer = stack.send(request("POST", CHAT, KEY, chat(&json!({})))).await;
    assert_eq!(answer.status, 503);
    assert_eq!(check_shape(&answer)["code"], "overloaded");
    drop(open);
    // The place is free again when the node has let go of the job.
    let end = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        let next = stack.send(request("POST", "/tokenize", KEY, json!({"prompt": "hello"}).to_string())).await;
        if next.status == 200 {
            break;
        }
        assert!(next.status == 503 && std::time::Instant::now() < end, "{}", next.text);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn chat_bodies() -> impl Strategy<Value = Value> {
    mutated(json!({
        "model": "acme/sst2", "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}], "n": 2,
        "stop": ["a", "b"], "stream": true, "stream_options": {"include_usage": true}, "logit_bias": {"7": 3},
        "logprobs": true, "top_logprobs": 2, "max_tokens": 4, "seed": 3,
    }))
}

fn text_bodies() -> impl Strategy<Value = Value> {
    mutated(json!({
        "model": "tiny", "prompt": [[5, 6], "x"], "echo": true, "logprobs": 1, "max_tokens": 2, "stop": "z", "n": 1,
    }))
}

fn tokenize_bodies() -> impl Strategy<Value = Value> {
    mutated(json!({
        "model": "tiny", "messages": [{"role": "user", "content": "x"}], "add_generation_prompt": false,
        "return_token_strs": true, "tokens": [1, 2], "prompt": "x", "add_special_tokens": false,
    }))
}

#[test]
fn no_body_makes_the_gateway_fail() {
    static RUNTIME: LazyLock<(tokio::runtime::Runtime, Stack)> = LazyLock::new(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stack = runtime.block_on(stack());
        (runtime, stack)
    });
    let bodies = prop_oneof![
        (Just(CHAT), chat_bodies()),
        (Just(TEXT), text_bodies()),
        (Just("/tokenize"), tokenize_bodies()),
        (Just("/detokenize"), tokenize_bodies()),
        (prop_oneof![Just(CHAT), Just(TEXT), Just("/tokenize")], any_json()),
    ];
    proptest!(|((path, body) in bodies)| {
        let (runtime, stack) = &*RUNTIME;
        let answer = runtime.block_on(stack.post(path, body.clone()));
        prop_assert!(answer.status.as_u16() < 500, "{path} {body}: {}", answer.text);
        if answer.status.as_u16() >= 400 {
            check_shape(&answer);
        } else {
            prop_assert!(!answer.text.contains("\"error\""), "{path} {body}: {}", answer.text);
        }
    });
}
