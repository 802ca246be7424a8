//! What the running server counts of answers that end before their time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stack;

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};
use stack::{BASE, Stack};

fn question(model: &str, max_tokens: u32, stream: bool) -> Value {
    json!({
        "model": model, "prompt": "Once upon a time", "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true,
        "stream": stream,
    })
}

/// The lines of settled jobs in the server's log, by field.
fn settled(stack: &Stack) -> Vec<Value> {
    let lines = stack.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let fields = lines.map(|line| line["fields"].clone());
    fields.filter(|fields| fields["message"] == "job settled").collect()
}

/// Waits for so many lines of settled jobs.
async fn wait_for_settled(stack: &Stack, num_jobs: usize) -> Vec<Value> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let lines = settled(stack);
        if lines.len() >= num_jobs {
            assert_eq!(lines.len(), num_jobs, "each job is settled once");
            return lines;
        }
        assert!(Instant::now() < end, "{} of {num_jobs} jobs are settled\n{}", lines.len(), stack.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn sum(lines: &[Value], field: &str) -> u64 {
    lines.iter().map(|line| line[field].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn clients_that_leave_are_counted_with_what_the_engine_computed() {
    let stack = Stack::start_with(&[("SOUK_LOG__FORMAT", "json")]);
    let before = stack.metric("souk_engine_generated_tokens_total").await;
    let url = format!("{}/v1/completions", stack.url);
    let leaves = [0, 1, 2, 5, 12];
    for num_events in leaves {
        let response = stack.http().post(&url).json(&question(BASE, 400, true)).send().await.unwrap();
        let mut stream = response.bytes_stream();
        for _ in 0..num_events {
            stream.next().await.unwrap().unwrap();
        }
    }
    for stream in [false, true] {
        let response = stack.http().post(&url).json(&question(BASE, 9, stream)).send().await.unwrap();
        response.bytes().await.unwrap();
    }
    let lines = wait_for_settled(&stack, leaves.len() + 2).await;
    let (left, whole) = lines.split_at(leaves.len());
    for (line, num_events) in left.iter().zip(leaves) {
        assert_eq!(line["outcome"], "caller_left", "{line}");
        let delivered = line["tokens.delivered"].as_u64().unwrap();
        // What the kernel's buffers had taken is delivered too.
        assert!(delivered >= num_events && delivered <= line["tokens.computed"].as_u64().unwrap(), "{line}");
        assert_eq!(line["charge.output"], line["tokens.delivered"], "{line}");
    }
    for line in whole {
        assert_eq!((&line["outcome"], &line["tokens.delivered"]), (&json!("length"), &json!(9)), "{line}");
    }
    let computed = stack.metric("souk_engine_generated_tokens_total").await - before;
    assert_eq!(sum(&lines, "tokens.computed") as f64, computed, "what the engine says itself");
}

#[tokio::test]
async fn a_take_down_ends_running_answers_within_a_second() {
    let stack = Stack::start_with(&[("SOUK_LOG__FORMAT", "json")]);
    stack.push_examples();
    let url = format!("{}/v1/completions", stack.url);
    let response = stack.http().post(&url).json(&question("admin/sst2", 4000, true)).send().await.unwrap();
    let mut stream = response.bytes_stream();
    stream.next().await.unwrap().unwrap();
    let whole = {
        let (http, body) = (stack.http(), question("admin/sst2@1.0.0", 4000, false));
        tokio::spawn(async move { http.post(url).json(&body).send().await.unwrap() })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = Instant::now();
    let take_down = format!("{}/registry/v1/adapters/admin/sst2/versions/1.0.0/take-down", stack.url);
    let answer = stack.http().post(take_down).json(&json!({ "reason": "a test" })).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut rest = String::new();
    while let Some(bytes) = stream.next().await {
        rest += std::str::from_utf8(&bytes.unwrap()).unwrap();
    }
    let whole = whole.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(rest.contains("event: error") && rest.contains("model_taken_down"), "{rest}");
    assert!(!rest.contains("[DONE]"));
    assert_eq!(whole.status(), 410);
    let lines = wait_for_settled(&stack, 2).await;
    assert!(lines.iter().all(|line| line["outcome"] == "taken_down"), "{lines:?}");
    // Others go on.
    let (status, answer) = stack.post("/v1/completions", &question("admin/sarcasm", 2, false)).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = stack.post("/v1/completions", &question("admin/sst2@1.0.0", 2, false)).await;
    assert_eq!(status, 410);
}
