//! What operators and load balancers ask, without a key.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use souk_gateway::GatewayLimits;
use souk_queue::QueueConfig;

use crate::stack::{HttpAnswer, Stack, says};

async fn get(stack: &Stack, path: &str) -> HttpAnswer {
    stack.send(Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_gateway_is_ready_when_its_base_has_a_node() {
    let alone = Stack::without_node(GatewayLimits::default(), QueueConfig::default()).await;
    assert_eq!(get(&alone, "/health").await.json(), json!({"status": "ok"}));
    let waiting = get(&alone, "/ready").await;
    assert_eq!((waiting.status.as_u16(), waiting.json()["status"].as_str()), (503, Some("waiting_for_nodes")));
    let stack = Stack::start(says("")).await;
    let ready = get(&stack, "/ready").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.json(), json!({"status": "ready", "bases": [{"id": "tiny", "nodes": 1}]}));
}

#[tokio::test]
async fn figures_are_counted_and_name_no_tenant_or_adapter() {
    let stack = Stack::start(says("hello world")).await;
    let body = json!({"model": "acme/sst2", "messages": [{"role": "user", "content": "hello"}], "stream": true});
    stack.post("/v1/chat/completions", body).await;
    stack.get("/v1/models/acme/sst2").await;
    let figures = get(&stack, "/metrics").await;
    assert_eq!(figures.status, 200);
    for name in [
        r#"souk_gateway_requests_total{route="/v1/chat/completions",method="POST",status="200"}"#,
        r#"souk_gateway_request_seconds_bucket{route="/v1/chat/completions",le="0.005"}"#,
        r#"souk_gateway_time_to_first_token_seconds_bucket{le="0.05"}"#,
        "souk_gateway_inter_token_seconds_count",
        "souk_gateway_prompt_tokens_total",
        "souk_gateway_completion_tokens_total",
        "souk_gateway_in_flight_requests",
    ] {
        assert!(figures.text.contains(name), "{name} is not in\n{}", figures.text);
    }
    assert!(!figures.text.contains("acme"), "{}", figures.text);
}

#[test]
fn the_document_lists_every_path_with_a_handler() {
    let document = souk_gateway::openapi();
    let paths: Vec<&str> = document.paths.paths.keys().map(String::as_str).collect();
    let mut sorted = paths.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [
            "/detokenize",
            "/health",
            "/metrics",
            "/ready",
            "/tokenize",
            "/tokenizer_info",
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/models",
            "/v1/models/{id}",
        ]
    );
    let document = serde_json::to_value(&document).unwrap();
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    let own_fields = |name: &str| schema(name)["allOf"][1].clone();
    assert_eq!(own_fields("ChatRequest")["required"], json!(["model", "messages"]));
    assert_eq!(own_fields("CompletionRequest")["required"], json!(["model", "prompt"]));
    assert!(schema("Generation")["required"].is_null());
    assert_eq!(schema("ErrorDetail")["required"], json!(["message", "type", "param", "code"]));
}
