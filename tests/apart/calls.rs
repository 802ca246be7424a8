//! Calls through two gateways of two registries answer as the single process does, to the bit.

use reqwest::Method;
use serde_json::{Value, json};

use crate::fleet::{Fleet, done};
use crate::stack::{BASE, Stack};

const EXAMPLES: [&str; 3] = ["sst2", "sarcasm", "address-json"];

/// What is asked of each model.
fn questions() -> Vec<Value> {
    let models = EXAMPLES.iter().map(|name| format!("admin/{name}@1.0.0")).chain([BASE.to_owned()]);
    let ask = |model: String| {
        json!({ "model": model, "prompt": "The food was great, but we waited for an hour.", "max_tokens": 12,
            "temperature": 0.7, "seed": 7, "logprobs": 3, "n": 2 })
    };
    models.map(ask).collect()
}

/// What of an answer is the same whoever gives it.
fn said(answer: &Value) -> (Value, Value) {
    (answer["choices"].clone(), answer["usage"].clone())
}

async fn compare(fleet: &Fleet) {
    let single = Stack::start();
    single.push_examples();
    for name in EXAMPLES {
        fleet.push(name, &format!("admin/{name}@1.0.0"));
    }
    let (_, key) = fleet.key().await;
    let token = fleet.token(&key).await;
    for question in questions() {
        let (status, expected) = single.post("/v1/completions", &question).await;
        assert_eq!(status, 200, "{expected}");
        for (gateway, presented) in [(0, &key), (1, &key), (0, &token), (1, &token)] {
            let gateway = &fleet.gateways[gateway];
            let (status, answer, _) = fleet.complete(gateway, presented, &question).await;
            assert_eq!(status, 200, "{answer}\n{}", gateway.log());
            assert_eq!(said(&answer), said(&expected), "{question}");
        }
    }
    // Lists, and what a name means.
    let url = |gateway: usize, path: &str| format!("{}{path}", fleet.gateways[gateway].url);
    let listed = done(fleet.http.get(url(1, "/v1/models")).bearer_auth(&key)).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1 + EXAMPLES.len());
    let detail = done(fleet.http.get(url(0, "/v1/models/admin/sst2")).bearer_auth(&key)).await;
    let version = done(fleet.at_registry(1, Method::GET, "adapters/admin/sst2/versions/1.0.0")).await;
    assert_eq!((&detail["digest"], &detail["version"]), (&version["digest"], &json!("1.0.0")));
    // What two registries wrote is whole.
    for (number, registry) in fleet.registries.iter().enumerate() {
        let found = done(fleet.at_registry(number, Method::GET, "adapters?limit=100")).await;
        assert_eq!(found["data"].as_array().unwrap().len(), EXAMPLES.len(), "{}", registry.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_through_two_gateways_equal_the_single_process_on_sqlite_and_a_folder() {
    compare(&Fleet::start().await).await;
}

#[cfg(has_postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_through_two_gateways_equal_the_single_process_on_postgresql_and_a_bucket() {
    let stores = crate::fleet::Stores::start().await;
    compare(&Fleet::start_with(&stores.settings()).await).await;
}
