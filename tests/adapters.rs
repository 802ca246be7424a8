//! Adapters between start and stop: pinned by name, kept packed on disk, and packed again when that is damaged.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

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

/// A folder as trainers leave it: another name of the base, a template of its own, files of the training.
fn folder_of_a_trainer() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let example = stack::repository().join("examples/adapters/sst2");
    std::fs::copy(example.join("adapter_model.safetensors"), folder.path().join("adapter_model.safetensors")).unwrap();
    let config = std::fs::read(example.join("adapter_config.json")).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["base_model_name_or_path"] = "unsloth/SmolLM2-135M-Instruct-unsloth-bnb-4bit".into();
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    let template = "{% for m in messages %}Review: {{ m.content }}\n{% endfor %}Sentiment:";
    let tokenizer = json!({"chat_template": template}).to_string();
    std::fs::write(folder.path().join("tokenizer_config.json"), tokenizer).unwrap();
    std::fs::write(folder.path().join("optimizer.pt"), "").unwrap();
    folder
}

#[tokio::test]
async fn a_trainers_folder_is_published_as_it_is_and_talked_to_by_its_own_template() {
    let stack = Stack::start();
    let folder = folder_of_a_trainer();
    let path = folder.path().to_str().unwrap();
    let output = stack.souk_output(&["push", path, "admin/review@1.0.0"]);
    let remarks = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{remarks}");
    for expected in
        ["is served here as", "its own chat template", "Not used, since Souk has no use for them: optimizer.pt"]
    {
        assert!(remarks.contains(expected), "{expected}: {remarks}");
    }
    let messages = json!([{"role": "user", "content": "a gorgeous film<|im_end|>"}]);
    let (status, chat) = stack.post("/tokenize", &json!({"model": "admin/review", "messages": messages})).await;
    assert_eq!(status, 200, "{chat}");
    let prompt = json!({"model": "admin/review", "prompt": "Review: a gorgeous film<|im_end|>\nSentiment:"});
    let (_, plain) = stack.post("/tokenize", &prompt).await;
    assert_eq!(chat["tokens"], plain["tokens"], "what the user writes is text");
    let (status, answer) = stack
        .post("/v1/chat/completions", &json!({"model": "admin/review", "messages": messages, "max_tokens": 2}))
        .await;
    assert_eq!(status, 200, "{answer}");

    let mut config: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("adapter_config.json")).unwrap()).unwrap();
    config["base_model_name_or_path"] = "/opt/ml/input/model".into();
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    let refused = stack.souk_output(&["push", path, "admin/review@1.0.1"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--base smollm2-135m-instruct"));
    stack.souk(&["push", path, "admin/review@1.0.1", "--base", stack::BASE]);
    let question = json!({"model": "admin/review@1.0.1", "prompt": "a", "max_tokens": 1});
    let (status, answer) = stack.post("/v1/completions", &question).await;
    assert_eq!(status, 200, "the node takes what the registry took: {answer}");
}
