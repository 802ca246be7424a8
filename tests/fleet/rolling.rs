//! Nodes are ended and started again one after the other, while clients ask: no request fails and no stream is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::field::Field;
use crate::stack::BASE;
use crate::streams::{Answer, question};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_of_nodes_cuts_no_stream_and_fails_no_request() {
    let mut field = Field::start(2, 0).await;
    for number in 0..2 {
        // Too short for the long answers, which are handed over.
        let node = field.node(number, &[("SOUK_SERVER__DRAIN_TIMEOUT_S", "2")]);
        field.nodes.push(node);
    }
    field.until_ready(2).await;
    let expected = {
        let body = question(BASE, 60);
        Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &body).await.finish().await.0
    };
    let (stop, num_answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|client| {
            let (http, key) = (field.fleet.http.clone(), field.key.clone());
            let url = field.fleet.gateways[client % 2].url.clone();
            let (stop, num_answered, expected) = (Arc::clone(&stop), Arc::clone(&num_answered), expected.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    let request = http.post(format!("{url}/v1/completions")).bearer_auth(&key);
                    let answer = request.json(&question(BASE, 60)).send().await.unwrap();
                    let status = answer.status();
                    let told: serde_json::Value = answer.json().await.unwrap();
                    assert_eq!(status, 200, "{told}");
                    assert_eq!(told["choices"][0]["text"], expected.as_str());
                    num_answered.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    for number in 0..field.nodes.len() {
        let body = question(BASE, 400);
        let mut answer = Answer::begin(&field.fleet, &field.fleet.gateways[number], &field.key, &body).await;
        answer.read(4).await;
        let (in_order, after) = field.nodes[number].end();
        println!("node {number} ended after {after:?}");
        assert!(in_order, "{}", field.nodes[number].log());
        let (text, _) = answer.finish().await;
        assert!(text.starts_with(&expected), "{text}");
        field.nodes[number].restart();
        field.until_ready(2).await;
    }
    stop.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    let num_answered = num_answered.load(Ordering::Acquire);
    println!("{num_answered} requests were answered, none failed");
    assert!(num_answered > 0);
}
