//! A delivery, as a receiver in another language verifies it with what docs/webhooks.md shows.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use serde_json::{Value, json};
use souk_http::serve::Networks;
use souk_registry::{Registry, RegistryConfig};
use tokio::sync::mpsc;

/// Whether the verifier in Python takes what arrived.
fn python(taken: &Value, secret: &str) -> Result<String, String> {
    let python = std::env::var_os("SOUK_TEST_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/verify_webhook.py");
    let mut command = Command::new(python);
    command.arg(script).arg(secret).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(taken.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout).trim().to_owned()) } else { Err(text(output.stderr)) }
}

/// A server that hands on what it takes, as JSON with headers and body.
async fn receiver() -> (String, mpsc::Receiver<Value>) {
    let (send, taken) = mpsc::channel(64);
    let take = move |headers: HeaderMap, body: String| async move {
        let headers: Value = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        send.send(json!({ "headers": headers, "body": body })).await.unwrap();
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(take)).await.unwrap() });
    (url, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_verified_by_what_the_page_shows_and_a_changed_one_is_not() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/webhooks.md")).unwrap();
    let script = include_str!("client/verify_webhook.py");
    let function = &script[script.find("def verify").unwrap()..script.find("\n\n\nif __name__").unwrap()];
    assert!(page.contains(function), "docs/webhooks.md shows the function `verify` as the script has it");

    let folder = tempfile::tempdir().unwrap();
    let mut config = RegistryConfig::new(folder.path());
    let webhooks = &mut config.settings.webhooks;
    (webhooks.allow_http, webhooks.look_every) = (true, Duration::from_millis(25));
    webhooks.allowed_networks = Networks::parse(&["127.0.0.1".to_owned()]).unwrap();
    let registry = Registry::open_embedded(config, Vec::new()).await.unwrap();
    let key = registry.bootstrap().await.unwrap().unwrap().expose().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/registry/v1", listener.local_addr().unwrap());
    let (router, _) = souk_registry::router(registry);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let http = reqwest::Client::new();
    let post = async |path: &str, body: Value| -> Value {
        let answer = http.post(format!("{url}{path}")).bearer_auth(&key).json(&body).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    };
    let (hook_url, mut taken) = receiver().await;
    let hook = post("/webhooks", json!({ "url": hook_url })).await;
    let made = post("/keys", json!({ "name": "k", "scopes": ["inference"] })).await;
    let id = made["id"].as_str().unwrap();
    http.delete(format!("{url}/keys/{id}")).bearer_auth(&key).send().await.unwrap().error_for_status().unwrap();

    let taken = tokio::time::timeout(Duration::from_secs(20), taken.recv()).await.unwrap().unwrap();
    let secret = hook["secret"].as_str().unwrap();
    assert_eq!(python(&taken, secret), Ok("key.revoked".to_owned()));
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(python(&taken, other).unwrap_err().contains("not signed with this secret"));
    let mut changed = taken.clone();
    changed["body"] = json!(taken["body"].as_str().unwrap().replace("key.revoked", "key.created"));
    assert!(python(&changed, secret).unwrap_err().contains("not signed with this secret"));
    let mut later = taken;
    later["headers"]["webhook-timestamp"] = json!("1");
    assert!(python(&later, secret).is_err());
}
