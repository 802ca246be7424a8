//! Requests for different adapters and the base at once: each answer is the one that the request gets alone.

mod stack;

use serde_json::{Value, json};
use stack::{BASE, Stack};

const PROMPTS: [&str; 4] = [
    "Sentence: a warm and funny film that stays with you .\nSentiment (positive or negative):",
    "Headline: area man proud of doing the bare minimum\nSarcastic (yes or no):",
    "Address: 1200 Main Street Suite 5 Springfield IL 62701\nJSON:",
    "Once upon a time there was",
];
const MODELS: [&str; 4] = ["admin/sst2", "admin/sarcasm", "admin/address-json", BASE];

fn request(model: &str, prompt: &str, temperature: f64) -> Value {
    json!({
        "model": model, "prompt": prompt, "temperature": temperature, "seed": 11, "max_tokens": 24, "logprobs": 2,
        "ignore_eos": true,
    })
}

#[tokio::test]
async fn text_and_logprobs_are_the_same_alone_and_in_a_full_mixed_batch() {
    let stack = Stack::start();
    stack.push_examples();
    let mut requests = Vec::new();
    for temperature in [0.0, 0.8] {
        for model in MODELS {
            requests.extend(PROMPTS.map(|prompt| request(model, prompt, temperature)));
        }
    }

    let mut alone = Vec::new();
    for request in &requests {
        let (status, answer) = stack.post("/v1/completions", request).await;
        assert_eq!(status, 200, "{answer}");
        alone.push(answer["choices"].clone());
    }
    let together =
        futures::future::join_all(requests.iter().map(|request| stack.post("/v1/completions", request))).await;
    for ((request, alone), (status, together)) in requests.iter().zip(&alone).zip(&together) {
        assert_eq!(*status, 200, "{together}");
        assert_eq!(alone, &together["choices"], "{request}");
    }
    // The adapters act: each model has its own answer to the same prompt.
    let answer = |model: usize, prompt: usize| &alone[model * PROMPTS.len() + prompt][0]["text"];
    assert_ne!(answer(0, 0), answer(3, 0));
    assert_ne!(answer(1, 0), answer(2, 0));
}

#[tokio::test]
async fn weighted_adapters_act_together_and_mix_with_all_others() {
    let stack = Stack::start();
    stack.push_examples();
    let weighted = |adapters: Value| {
        let mut request = request(BASE, PROMPTS[0], 0.0);
        request["adapters"] = adapters;
        request
    };
    let (sst2, sarcasm) = ("admin/sst2", "admin/sarcasm");
    let requests = [
        request(BASE, PROMPTS[0], 0.0),
        request(sst2, PROMPTS[0], 0.0),
        weighted(json!([{ "id": sst2 }])),
        weighted(json!([{ "id": sst2, "weight": 0 }])),
        weighted(json!([{ "id": sst2, "weight": 0.5 }, { "id": sarcasm, "weight": 0.5 }])),
        weighted(json!([{ "id": sst2, "weight": 0.5 }])),
    ];
    let mut alone = Vec::new();
    for request in &requests {
        let (status, answer) = stack.post("/v1/completions", request).await;
        assert_eq!(status, 200, "{answer}");
        alone.push(answer["choices"].clone());
    }
    let [base, plain, one, off, both, half] = &alone[..] else { panic!("six answers") };
    assert_eq!(plain, one, "one adapter of weight 1 is that adapter");
    assert_eq!(base, off, "weight 0 is the base model");
    for (a, b) in [(plain, base), (both, plain), (both, half), (half, base)] {
        assert_ne!(a[0]["logprobs"], b[0]["logprobs"]);
    }
    let together =
        futures::future::join_all(requests.iter().map(|request| stack.post("/v1/completions", request))).await;
    for (alone, (_, together)) in alone.iter().zip(&together) {
        assert_eq!(alone, &together["choices"]);
    }
}

#[tokio::test]
async fn one_adapter_with_huge_weights_ends_only_its_own_requests() {
    let stack = Stack::start();
    stack.push_examples();
    // Finite weights, so that it is accepted, and large enough that the activations overflow.
    let folder = tempfile::tempdir().unwrap();
    let example = stack::repository().join("examples/adapters/sst2");
    std::fs::copy(example.join("adapter_config.json"), folder.path().join("adapter_config.json")).unwrap();
    let mut weights = std::fs::read(example.join("adapter_model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    for value in weights[header..].chunks_exact_mut(2) {
        value.copy_from_slice(&0x7e00_u16.to_le_bytes()); // 4e37 in bf16, within range with the scale
    }
    std::fs::write(folder.path().join("adapter_model.safetensors"), weights).unwrap();
    stack.push(folder.path(), "admin/broken@1.0.0");

    let good = request("admin/sst2", PROMPTS[0], 0.0);
    let (_, expected) = stack.post("/v1/completions", &good).await;
    let broken = request("admin/broken", PROMPTS[0], 0.0);
    let ((status, error), (good_status, answer)) =
        futures::future::join(stack.post("/v1/completions", &broken), stack.post("/v1/completions", &good)).await;
    assert!(status >= 400, "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("not finite"), "{error}");
    assert_eq!(good_status, 200);
    assert_eq!(answer["choices"], expected["choices"]);
}
