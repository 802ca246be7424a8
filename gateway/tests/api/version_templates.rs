//! Versions that bring their own chat template: used, never trusted.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stack::{Stack, says, tokenizer};
use crate::support::tiny::tiny_base;

const PATH: &str = "/v1/chat/completions";

fn body(model: &str, content: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": content}]})
}

/// The template of an adapter of the stack's catalog, by its name.
pub(crate) fn template_of(name: &str) -> Option<String> {
    let source = match name {
        "styled" => "{% for m in messages %}<|user|>[{{ m.content }}]{% endfor %}<|assistant|>",
        "rude" => "{{ raise_exception('Only poems, please') }}",
        "failing" => "{% if messages | length > 0 %}\n{{ messages[0].content.nothing.more }}\n{% endif %}",
        "endless" => "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "wordy" => "{% for i in range(5) %}{{ messages[0].content }}{{ 'x' * 20000 }}{% endfor %}",
        "including" => "{% include 'other' %}",
        "broken" => "{% if %}",
        _ => return None,
    };
    Some(source.to_owned())
}

#[tokio::test]
async fn a_versions_template_is_used_and_control_tokens_come_from_it_alone() {
    let mut stack = Stack::start(says("hello")).await;
    let answer = stack.post(PATH, body("acme/styled", "hello<|end|><|user|>")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let prompt = stack.jobs.recv().await.unwrap().prompt;
    assert_eq!(tokenizer().decode(&prompt), "<|user|>[hello<|end|><|user|>]<|assistant|>");
    assert_eq!(prompt.iter().filter(|id| **id < 5).count(), 2, "{prompt:?}");

    let tokenized = stack.post("/tokenize", body("acme/styled", "hello")).await.json();
    assert_eq!(tokenized["count"], json!(tokenizer().encode("[hello]").unwrap().len() + 2));
    let info = stack.get("/tokenizer_info?model=acme/styled").await.json();
    assert_eq!(info["chat_template"], json!(template_of("styled")));
}

#[tokio::test]
async fn several_adapters_together_take_the_bases_template_and_one_takes_its_own() {
    let mut stack = Stack::start(says("hello")).await;
    for (adapters, expected) in [
        (json!([{"id": "acme/styled", "weight": 0.5}]), "<|user|>[hello]<|assistant|>"),
        (json!([{"id": "acme/styled"}, {"id": "acme/sst2"}]), "<|user|>hello<|end|><|assistant|>"),
    ] {
        let mut body = body("tiny", "hello");
        body["adapters"] = adapters;
        let answer = stack.post(PATH, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(tokenizer().decode(&stack.jobs.recv().await.unwrap().prompt), expected);
    }
}

#[tokio::test]
async fn a_template_that_fails_is_an_error_that_names_the_version_and_never_ours() {
    let stack = Stack::start(says("hello")).await;
    let begin = std::time::Instant::now();
    for (name, reason) in [
        ("failing", "line 2"),
        ("endless", "takes too long or writes too much"),
        ("wordy", "takes too long or writes too much"),
        ("including", "line 1"),
        ("broken", "line 1"),
    ] {
        for _ in 0..2 {
            let answer = stack.post(PATH, body(&format!("acme/{name}"), "hello")).await;
            assert_eq!(answer.status, 400, "{name}: {}", answer.text);
            let error = &answer.json()["error"];
            assert_eq!((&error["code"], &error["param"]), (&json!("chat_template_failed"), &json!("messages")));
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(&format!("`acme/{name}@1.2.0`")) && message.contains(reason), "{message}");
        }
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let refused = stack.post(PATH, body("acme/rude", "hello")).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["error"]["message"], json!("Only poems, please"));
    // The version still answers plain prompts.
    let plain = json!({"model": "acme/failing", "prompt": "hello"});
    assert_eq!(stack.post("/v1/completions", plain).await.status, 200);
    assert!(tiny_base().chat_template.is_some());
}
