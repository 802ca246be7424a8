//! A pool without a node, with one, and without again.

use serde_json::json;

use crate::field::{Field, LIMIT};
use crate::fleet::{described_base, until};
use crate::stack::BASE;
use crate::streams::question;

/// How many jobs wait, as KEDA's scaler for streams of Redis reads it.
fn lag(field: &Field) -> u64 {
    let described = std::fs::read_to_string(described_base()).unwrap();
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    let digest = described["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let stream = format!("souk:{{q{}}}:backlog", &digest[..32]);
    let said = field.redis.cli(&["XINFO", "GROUPS", &stream]);
    let mut lines = said.lines().map(str::trim);
    lines.find(|line| *line == "lag").unwrap_or_else(|| panic!("{stream}: {said}"));
    lines.next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_the_first_node_where_the_autoscaler_sees_them_and_again_when_it_is_gone() {
    let mut field = Field::start(0, 0).await;
    let waits = field.gateway(0, &[("SOUK_GATEWAY__WAIT_FOR_NODE_S", "120")]);
    let refuses = field.gateway(1, &[]);
    field.fleet.gateways.extend([waits, refuses]);
    let body = question(BASE, 8);
    let mut texts = Vec::new();
    for round in 0..2 {
        for gateway in &field.fleet.gateways {
            let has_none = async || field.fleet.ready(gateway).await.1["status"] == "waiting_for_nodes";
            until("it knows that there is none", LIMIT, has_none).await;
        }
        let (http, key) = (field.fleet.http.clone(), field.key.clone());
        let url = format!("{}/v1/completions", field.fleet.gateways[0].url);
        let asked = body.clone();
        let asking = tokio::spawn(async move {
            let answer = http.post(url).bearer_auth(key).json(&asked).send().await.unwrap();
            (answer.status().as_u16(), answer.json::<serde_json::Value>().await.unwrap())
        });
        let gateway = &field.fleet.gateways[0];
        let waiting = async || field.figure(gateway, "souk_gateway_waiting_for_node_requests").await == 1.0;
        until("it waits for a node", LIMIT, waiting).await;
        until("the lag says so", LIMIT, async || lag(&field) == 1).await;
        let refused = async || {
            let (status, told, says_when) = field.ask(1, &body).await;
            (status, &told["error"]["code"]) == (503, &json!("no_node")) && says_when
        };
        until("who does not wait is refused", LIMIT, refused).await;
        if round == 0 {
            let node = field.node(0, &[]);
            field.nodes.push(node);
        } else {
            field.nodes[0].restart();
        }
        let (status, told) = asking.await.unwrap();
        assert_eq!(status, 200, "{told}\n{}", field.logs());
        texts.push(told["choices"][0]["text"].clone());
        assert_eq!(lag(&field), 0);
        field.until_ready(1).await;
        let (status, told, _) = field.ask(1, &body).await;
        assert_eq!((status, &told["choices"][0]["text"]), (200, &texts[0]), "{told}");
        let (in_order, _) = field.nodes[0].end();
        assert!(in_order, "{}", field.nodes[0].log());
    }
    assert_eq!(texts[0], texts[1]);
}
