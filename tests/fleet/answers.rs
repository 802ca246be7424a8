//! A fleet answers as the single process does, to the bit.

use serde_json::{Value, json};

use crate::field::Field;
use crate::stack::{BASE, Stack};

const EXAMPLES: [&str; 3] = ["sst2", "sarcasm", "address-json"];

fn questions() -> Vec<Value> {
    let models = EXAMPLES.iter().map(|name| format!("admin/{name}@1.0.0")).chain([BASE.to_owned()]);
    let ask = |model: String| {
        json!({ "model": model, "prompt": "The food was great, but we waited for an hour.", "max_tokens": 12,
            "temperature": 0.7, "seed": 7, "logprobs": 3, "n": 2 })
    };
    models.map(ask).collect()
}

fn push_examples(field: &Field) {
    for name in EXAMPLES {
        field.fleet.push(name, &format!("admin/{name}@1.0.0"));
    }
}

async fn compare(field: &Field) {
    let single = Stack::start();
    single.push_examples();
    push_examples(field);
    for question in questions() {
        let (status, expected) = single.post("/v1/completions", &question).await;
        assert_eq!(status, 200, "{expected}");
        for gateway in &field.fleet.gateways {
            let (status, answer, _) = field.fleet.complete(gateway, &field.key, &question).await;
            let logs: String = field.nodes.iter().map(crate::fleet::Process::log).collect();
            assert_eq!(status, 200, "{answer}\n{}\n{logs}", gateway.log());
            assert_eq!(answer["choices"], expected["choices"], "{question}");
            let counted = |of: &Value| (of["usage"]["prompt_tokens"].clone(), of["usage"]["completion_tokens"].clone());
            assert_eq!(counted(&answer), counted(&expected), "{question}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_and_one_node_answer_through_redis_as_the_single_process_does() {
    let field = Field::start(1, 1).await;
    compare(&field).await;
    // The start is told as a timeline.
    let log = field.nodes[0].log();
    for step in ["settings read", "model mapped", "weights packed", "engine ready", "queue reached", "first claim"] {
        assert!(log.contains(step), "{step}: {log}");
    }
    let (status, told) = field.fleet.ready(&field.nodes[0]).await;
    assert_eq!((status, &told["status"]), (200, &json!("ready")));
    // The official client, as it is.
    let gateway = &field.fleet.gateways[0].url;
    let variables =
        [("SOUK_URL", gateway.as_str()), ("SOUK_API_KEY", field.fleet.admin_key.as_str()), ("SOUK_BASE", BASE)];
    crate::stack::python("chat.py", &variables);
}

#[cfg(has_postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_and_two_nodes_on_postgresql_and_a_bucket_answer_as_the_single_process_does() {
    let stores = crate::fleet::Stores::start().await;
    let redis = souk_testkit::redis::Redis::that_forgets();
    let field = Field::start_with(&stores.settings(), redis, 2, 2).await;
    compare(&field).await;
    // Files came from the bucket itself, at addresses that registries had signed.
    assert!(stores.bucket.num_requests("GET", "X-Amz-Signature=") > 0, "nodes read the bucket");
}
