//! The ports of the real server, and its end after a signal.

mod stack;

use std::time::{Duration, Instant};

use reqwest::Response;
use serde_json::{Value, json};
use stack::{BASE, Stack};

/// Begins a long answer and reads its first bytes.
async fn begin_answer(stack: &Stack) -> Response {
    let body = json!({
        "model": BASE, "stream": true, "ignore_eos": true, "max_tokens": 8000,
        "messages": [{"role": "user", "content": "Count."}],
    });
    let url = format!("{}/v1/chat/completions", stack.url);
    let mut answer = stack.http().post(url).json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.chunk().await.expect("the stream is whole").expect("it has begun");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_operators_works_on_their_port_only() {
    let stack = Stack::start_with(&[("SOUK_SERVER__ADMIN_LISTEN", "localhost:0")]);
    let log = stack.log();
    let operators = log.lines().find_map(|line| line.strip_prefix("operators on ")).expect("the start says where");
    let ask = async |base: &str, path: &str| {
        let answer = stack.http().get(format!("{base}{path}")).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    };
    for port in [operators, &stack.url] {
        assert_eq!(ask(port, "/health").await.0, 200);
        assert_eq!(ask(port, "/v1/models").await.0, 200);
    }
    let (status, figures) = ask(operators, "/metrics").await;
    assert!(status == 200 && figures.contains("souk_http_connections"), "{status} {figures}");
    assert_eq!(ask(operators, "/registry/v1/tenants").await.0, 200);
    assert_eq!(ask(&stack.url, "/metrics").await.0, 404);
    let (status, problem) = ask(&stack.url, "/registry/v1/tenants").await;
    let problem: Value = serde_json::from_str(&problem).expect("a problem");
    assert_eq!((status, &problem["code"]), (403, &json!("operators_port_only")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_within_its_limit_and_changes_nothing_any_more() {
    let mut stack = Stack::start_with(&[("SOUK_SERVER__DRAIN_TIMEOUT_S", "8")]);
    let answer = begin_answer(&stack).await;
    let began = Instant::now();
    stack.terminate();
    while stack.http().get(format!("{}/ready", stack.url)).send().await.expect("an answer").status() == 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, problem) = stack.post("/registry/v1/tenants", &json!({"name": "late"})).await;
    assert_eq!((status, &problem["code"]), (503, &json!("shutting_down")));
    // Once for the answers and once more for the node were sixteen seconds.
    assert!(stack.wait(Duration::from_secs(60)), "in good order");
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}\n{}", began.elapsed(), stack.log());
    drop(answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let mut stack = Stack::start_with(&[("SOUK_SERVER__DRAIN_TIMEOUT_S", "3600")]);
    let answer = begin_answer(&stack).await;
    stack.terminate();
    while stack.http().get(format!("{}/ready", stack.url)).send().await.expect("an answer").status() == 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stack.terminate();
    assert!(!stack.wait(Duration::from_secs(60)), "it was cut short and says so");
    let end = Instant::now() + Duration::from_secs(10);
    while !stack.log().contains("second signal") {
        assert!(Instant::now() < end, "{}", stack.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(answer);
}
