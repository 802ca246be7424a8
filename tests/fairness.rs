//! One tenant's flood does not delay another's single request.

mod stack;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use stack::{BASE, Stack};

/// Requests of the flood.
const NUM_FLOOD: usize = 200;

fn request(prompt: &str, max_tokens: usize) -> Value {
    json!({ "model": BASE, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true })
}

/// A key of a new tenant.
async fn key_of(stack: &Stack, tenant: &str) -> String {
    let post = |path: &'static str, body: Value| async move {
        let response = stack.http().post(format!("{}/registry/v1/{path}", stack.url)).json(&body).send().await;
        response.expect("an answer").error_for_status().expect("it is made").json::<Value>().await.expect("JSON")
    };
    post("tenants", json!({ "name": tenant })).await;
    let made = post("keys", json!({ "name": tenant, "scopes": ["inference"], "tenant": tenant })).await;
    made["secret"].as_str().expect("the key").to_owned()
}

#[tokio::test]
async fn a_single_request_is_answered_before_a_tenth_of_anothers_flood() {
    let stack = Stack::start_with(&[("SOUK_ENGINE__MAX_SEQUENCES", "8"), ("SOUK_ENGINE__MAX_REQUESTS", "32")]);
    let key = key_of(&stack, "modest").await;
    let num_answered = Arc::new(AtomicUsize::new(0));
    let (http, url) = (stack.http(), format!("{}/v1/completions", stack.url));
    let flood: Vec<_> = (0..NUM_FLOOD)
        .map(|number| {
            let (num_answered, http, url) = (Arc::clone(&num_answered), http.clone(), url.clone());
            tokio::spawn(async move {
                let request = request(&format!("{number} is a number that"), 12);
                let status = http.post(url).json(&request).send().await.expect("an answer").status();
                num_answered.fetch_add(1, Ordering::SeqCst);
                status.as_u16()
            })
        })
        .collect();
    // The batch is full of the flood, and most of it waits in the queue.
    while stack.metric("souk_engine_running_sequences").await < 8.0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let before = num_answered.load(Ordering::SeqCst);
    let answer = reqwest::Client::new().post(&url).bearer_auth(key).json(&request("Once upon a time", 2)).send();
    assert_eq!(answer.await.expect("an answer").status(), 200);
    let meanwhile = num_answered.load(Ordering::SeqCst) - before;
    assert!(before + meanwhile < NUM_FLOOD / 2, "the flood was still waiting: {before} + {meanwhile}");
    // Its few steps see at most two rounds of a batch of eight end.
    assert!(meanwhile < NUM_FLOOD / 10, "{meanwhile} of {NUM_FLOOD} were answered first");
    for answer in flood {
        assert_eq!(answer.await.expect("the task ends"), 200, "nobody is refused for it");
    }
}
