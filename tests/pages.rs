//! What the server shows beside its APIs: the API documents and their page, health, readiness and metrics.

mod stack;

use std::process::Command;

use serde_json::Value;
use stack::Stack;

#[test]
fn the_api_documents_in_the_repository_are_what_the_code_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_souk"))
        .args(["openapi", "--check", "--dir"])
        .arg(stack::repository().join("openapi"))
        .output()
        .expect("the executable runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn documentation_health_and_metrics_are_served_from_the_executable() {
    let stack = Stack::start();
    let get = async |path: &str| {
        // Without a key: these are for operators and browsers.
        let response = reqwest::get(format!("{}{path}", stack.url)).await.expect("an answer");
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.expect("a body")
    };
    let page = get("/docs/").await;
    assert!(page.contains("swagger-ui") && !page.contains("https://"), "the page needs no other host: {page}");
    assert!(get("/docs/swagger-ui-bundle.js").await.len() > 100_000);
    for name in ["gateway", "registry"] {
        let document: Value = serde_json::from_str(&get(&format!("/openapi/{name}.json")).await).expect("JSON");
        assert!(document["paths"].as_object().is_some_and(|paths| paths.len() > 5), "{name}");
    }
    get("/health").await;
    get("/ready").await;
    let metrics = get("/metrics").await;
    for name in ["souk_engine_free_kv_blocks", "souk_queue_queued_jobs", "# HELP souk_queue_queued_jobs"] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
}

#[test]
fn a_command_whose_reader_leaves_ends_quietly() {
    let stack = Stack::start();
    let command = format!("{} chat --raw --max-tokens 64 'Once upon a time' | head -c 1", env!("CARGO_BIN_EXE_souk"));
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-c", &command])
        .env("SOUK_URL", &stack.url)
        .env("SOUK_API_KEY", &stack.admin_key)
        .output()
        .expect("bash runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
