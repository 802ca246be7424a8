//! What the server shows beside its APIs: the API documents and their page, health, readiness and metrics.

mod stack;

use std::process::Command;

use serde_json::{Value, json};
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
    let headers = reqwest::get(format!("{}/docs/", stack.url)).await.expect("an answer").headers().clone();
    let policy = headers["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert!(!page.contains("<script>"), "the policy lets no script in the page run: {page}");
    let settings = get("/docs/swagger-initializer.js").await;
    assert!(!settings.contains(r#""persistAuthorization": true"#), "keys are not stored: {settings}");
    assert!(get("/docs/swagger-ui-bundle.js").await.len() > 100_000);
    for name in ["gateway", "registry"] {
        let document: Value = serde_json::from_str(&get(&format!("/openapi/{name}.json")).await).expect("JSON");
        assert!(document["paths"].as_object().is_some_and(|paths| paths.len() > 5), "{name}");
    }
    get("/health").await;
    get("/ready").await;
    stack.push_examples();
    let question = json!({ "model": "admin/sst2", "prompt": "Good", "max_tokens": 2, "guided_regex": "[a-z ]+" });
    assert_eq!(stack.post("/v1/completions", &question).await.0, 200);
    let metrics = get("/metrics").await;
    for name in ["souk_engine_free_kv_blocks", "souk_queue_queued_jobs", "# HELP souk_queue_queued_jobs"] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    let described = |name: &str| metrics.contains(&format!("# HELP {name} "));
    let names = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let silent: Vec<&str> = names.filter(|name| !described(name)).collect();
    assert!(silent.is_empty(), "nothing says what these figures mean: {silent:?}");
    assert!(metrics.contains("souk_registry_requests_total{"), "the registry is counted too: {metrics}");
}

#[tokio::test]
async fn pages_of_listed_origins_may_call_models_and_nothing_else() {
    let stack = Stack::start_with(&[("SOUK_CORS__ORIGINS", "https://app.example.com")]);
    let http = reqwest::Client::new();
    let preflight = async |path: &str, origin: &str| {
        let request = http.request(reqwest::Method::OPTIONS, format!("{}{path}", stack.url));
        let request = request.header("origin", origin).header("access-control-request-method", "GET");
        let headers = request.send().await.expect("an answer").headers().clone();
        headers.get("access-control-allow-origin").map(|value| value.to_str().expect("text").to_owned())
    };
    let page = "https://app.example.com";
    assert_eq!(preflight("/v1/models", page).await.as_deref(), Some(page));
    assert_eq!(preflight("/v1/models", "https://other.example.com").await, None);
    let registry = ["/registry/v1/adapters", "/registry/v1/tenants", "/registry/v1/base-models", "/registry/v1/none"];
    for path in registry.into_iter().chain(["/", "/docs/", "/openapi/registry.json", "/metrics", "/health", "/none"]) {
        assert_eq!(preflight(path, page).await, None, "{path}");
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
