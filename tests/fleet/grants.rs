//! A node has files with what came in its jobs, and nothing without.

use reqwest::Method;
use serde_json::json;

use crate::field::Field;
use crate::fleet::done;
use crate::streams::question;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_grant_gets_nothing_and_with_its_jobs_what_they_are_about() {
    let field = Field::start(1, 0).await;
    field.fleet.push("sst2", "admin/sst2@1.0.0");
    let version = done(field.fleet.at_registry(0, Method::GET, "adapters/admin/sst2/versions/1.0.0")).await;
    let digest = version["digest"].as_str().unwrap();
    // A node's key, by hand: it opens no file by itself, and nothing else of what services ask.
    let key = field.fleet.souk(&["services", "create", "node-x", "--kind", "node"]);
    let internal = |path: &str| format!("{}/registry/v1/internal/{path}", field.fleet.registries[0].url);
    let http = &field.fleet.http;
    let token = done(http.post(internal("token")).bearer_auth(key.trim())).await;
    let token = token["access_token"].as_str().unwrap();
    for (path, code) in
        [(format!("files/{digest}"), "file_grant_missing"), ("withdrawals".to_owned(), "not_for_service")]
    {
        let refused = http.get(internal(&path)).bearer_auth(token).send().await.unwrap();
        assert_eq!(refused.status(), 403, "{path}");
        let told: serde_json::Value = refused.json().await.unwrap();
        assert_eq!(told["code"], code, "{told}");
    }
    let resolved = http.post(internal("resolve")).bearer_auth(token).json(&json!({ "reference": "admin/sst2" }));
    assert_eq!(resolved.send().await.unwrap().status(), 403, "it cannot ask for a grant itself");
    // With a job it has them.
    let mut field = field;
    let node = field.node(0, &[]);
    field.nodes.push(node);
    field.until_ready(1).await;
    let gateway = &field.fleet.gateways[0];
    let (status, answer, _) = field.fleet.complete(gateway, &field.key, &question("admin/sst2", 3)).await;
    assert_eq!(status, 200, "{answer}\n{}", field.nodes[0].log());
    assert!(field.nodes[0].log().contains("adapter loaded"), "{}", field.nodes[0].log());
}
