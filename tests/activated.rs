//! An activated adapter over HTTP: it goes on from the base model's K and V.

mod stack;

use serde_json::{Value, json};
use stack::{BASE, Stack};

fn request(model: &str, prompt: &Value) -> Value {
    json!({ "model": model, "prompt": prompt, "max_tokens": 8, "temperature": 0, "logprobs": 2, "ignore_eos": true })
}

#[tokio::test]
async fn an_activated_adapter_acts_behind_its_invocation_and_reuses_the_bases_work() {
    let stack = Stack::start();
    let (invocation, folder) = ([9906, 2717], tempfile::tempdir().unwrap());
    let example = stack::repository().join("examples/adapters/sst2");
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(example.join("adapter_config.json")).unwrap()).unwrap();
    config["alora_invocation_tokens"] = json!(invocation);
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
    let weights = "adapter_model.safetensors";
    std::fs::copy(example.join(weights), folder.path().join(weights)).unwrap();
    stack.push(folder.path(), "admin/late@1.0.0");
    stack.push(&example, "admin/always@1.0.0");

    let before: Vec<u32> = (0..40).map(|place| 300 + 7 * place).collect();
    let prompt = |parts: &[&[u32]]| json!(parts.concat());
    let ask = async |model: &str, prompt: Value| {
        let (status, answer) = stack.post("/v1/completions", &request(model, &prompt)).await;
        assert_eq!(status, 200, "{answer}");
        let cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        (answer["choices"].clone(), cached)
    };
    let (base, _) = ask(BASE, prompt(&[&before])).await;
    let (silent, _) = ask("admin/late", prompt(&[&before])).await;
    assert_eq!(base, silent, "what does not invoke it gets the base's answer");
    let invoked = prompt(&[&before, &invocation, &[600]]);
    let (late, cached) = ask("admin/late", invoked.clone()).await;
    assert_eq!(cached, 32, "the base's blocks before the invocation");
    assert_ne!(late, ask(BASE, invoked.clone()).await.0);
    assert_ne!(late, ask("admin/always", invoked).await.0, "it does not act on the conversation before");
    let at_once = prompt(&[&invocation, &before]);
    assert_eq!(ask("admin/late", at_once.clone()).await.0, ask("admin/always", at_once).await.0);
}
