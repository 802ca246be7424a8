//! A node that starts has what its pool asks for before anybody asks it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::field::{Field, LIMIT};
use crate::fleet::{done, until};

const ADAPTER: &str = "admin/sst2";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_with_an_empty_disk_has_what_is_asked_for_before_it_is_asked() {
    let mut field = Field::start(1, 1).await;
    field.fleet.push("sst2", "admin/sst2@1.0.0");
    let body = json!({ "model": ADAPTER, "prompt": "Good.", "max_tokens": 1, "n": 16 });
    let (status, answer, _) = field.fleet.complete(&field.fleet.gateways[0], &field.key, &body).await;
    assert_eq!(status, 200, "{answer}\n{}", field.nodes[0].log());
    let told = async || !field.redis.cli(&["KEYS", "souk:*:popular"]).trim().is_empty();
    until("the gateway has told what is asked for", LIMIT, told).await;
    let new = field.node(1, &[]);
    field.nodes.push(new);
    let url = format!("{}/v1/models/{ADAPTER}", field.fleet.gateways[0].url);
    let warm = async || {
        let told: Value = done(field.fleet.http.request(Method::GET, &url).bearer_auth(&field.fleet.admin_key)).await;
        told["warm"].as_array().is_some_and(|warm| warm.iter().any(|one| one["node"] == "node-1"))
    };
    until("the new node has it in memory", LIMIT, warm).await;
    let new = &field.nodes[1];
    let figure = async |name: &str| field.figure(new, name).await;
    assert_eq!(figure("souk_adapter_prefetches_total").await, 1.0);
    assert_eq!(figure("souk_adapter_requests_total").await, 0.0, "no request has reached it");
    assert!(new.log().contains("were brought into memory"), "{}", new.log());
}
