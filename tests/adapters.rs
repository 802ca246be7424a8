//! Adapters between start and stop: pinned by name, kept packed on disk, and packed again when that is damaged.

mod stack;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack::Stack;

const SOON: Duration = Duration::from_secs(20);

async fn until_metric(stack: &Stack, name: &str, holds: impl Fn(f64) -> bool) {
    let end = Instant::now() + SOON;
    loop {
        let value = stack.metric(name).await;
        if holds(value) {
            return;
        }
        assert!(Instant::now() < end, "{name} stays {value}\n{}", stack.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn answer(stack: &Stack) -> Value {
    let question = json!({
        "model": "admin/sst2", "prompt": "a gorgeous film", "max_tokens": 6, "temperature": 0, "ignore_eos": true, "logprobs": 0,
    });
    let (status, answer) = stack.post("/v1/completions", &question).await;
    assert_eq!(status, 200, "{answer}");
    answer["choices"].clone()
}

#[tokio::test]
async fn pinned_adapters_come_with_the_start_and_damaged_packed_ones_are_packed_again() {
    let mut stack = Stack::start_with(&[("SOUK_ADAPTERS__PINNED", "admin/sst2,admin/no-such-adapter")]);
    stack.push_examples();
    let first = answer(&stack).await;
    until_metric(&stack, "souk_adapter_disk_writes_total", |writes| writes == 1.0).await;
    stack.kill();

    stack.restart();
    until_metric(&stack, "souk_adapter_pinned_bytes", |bytes| bytes > 0.0).await;
    assert!(stack.log().contains("admin/no-such-adapter"), "{}", stack.log());
    assert_eq!(answer(&stack).await, first, "what came from disk gives the same answer");
    assert_eq!(stack.metric("souk_adapter_disk_writes_total").await, 0.0);
    stack.kill();

    let packed = std::fs::read_dir(stack.data_dir().join("packed")).unwrap();
    for file in packed.map(|entry| entry.unwrap().path()) {
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }
    stack.restart();
    until_metric(&stack, "souk_adapter_pinned_bytes", |bytes| bytes > 0.0).await;
    assert_eq!(answer(&stack).await, first);
    until_metric(&stack, "souk_adapter_disk_writes_total", |writes| writes == 1.0).await;
    assert_eq!(stack.metric("souk_adapter_disk_corrupt_total").await, 1.0);
}
