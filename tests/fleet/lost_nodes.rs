//! Nodes are lost while they answer. The client's stream goes on to the text that it would have had, and is charged once.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::field::Field;
use crate::fleet::Process;
use crate::stack::BASE;
use crate::streams::{Answer, question};

/// Tokens of an answer that takes long enough for its node to be lost in the middle.
const LONG: u32 = 160;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_in_an_answer_is_not_noticed_and_charged_once() {
    let mut field = Field::start(1, 2).await;
    let body = question(BASE, LONG);
    let text = field.undisturbed(&body).await;
    let mut answer = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &body).await;
    answer.read(8).await;
    let node = field.busy_node().await;
    field.nodes[node].kill();
    let (killed, before) = (Instant::now(), answer.num_pieces);
    answer.read(before + 1).await;
    println!("killed in an answer: the next token came after {:?}", killed.elapsed());
    field.ends_as(answer, &text).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_while_it_reads_the_prompt_is_not_noticed() {
    let mut field = Field::start(1, 2).await;
    let mut body = question(BASE, 8);
    body["prompt"] = json!("The quick brown fox jumps over the lazy dog. ".repeat(250));
    let (status, expected, _) = field.fleet.complete(&field.fleet.gateways[0], &field.key, &body).await;
    assert_eq!(status, 200, "{expected}");
    // The same text under another tenant's salt would be read anew; here another beginning does it.
    body["prompt"] = json!(format!("Now: {}", body["prompt"].as_str().unwrap()));
    let asked = {
        let (http, url, key) = (field.fleet.http.clone(), field.fleet.gateways[0].url.clone(), field.key.clone());
        let body = body.clone();
        tokio::spawn(async move {
            http.post(format!("{url}/v1/completions")).bearer_auth(key).json(&body).send().await.unwrap()
        })
    };
    let node = field.busy_node().await;
    field.nodes[node].kill();
    let answer = asked.await.unwrap();
    assert_eq!(answer.status(), 200);
    let request = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let answer: serde_json::Value = answer.json().await.unwrap();
    let (status, again, _) = field.fleet.complete(&field.fleet.gateways[0], &field.key, &body).await;
    assert_eq!(status, 200, "{again}");
    assert_eq!(answer["choices"][0]["text"], again["choices"][0]["text"]);
    field.is_charged_once(&request, &answer["usage"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_past_its_lease_and_goes_on_does_no_harm() {
    let field = Field::start(1, 2).await;
    let body = question(BASE, LONG);
    let text = field.undisturbed(&body).await;
    let mut answer = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &body).await;
    answer.read(8).await;
    let node = field.busy_node().await;
    field.nodes[node].signal("-STOP");
    let (stopped, before) = (Instant::now(), answer.num_pieces);
    answer.read(before + 1).await;
    println!("standing still: the next token came after {:?}", stopped.elapsed());
    // Longer than the lease; what it says when it goes on is of an attempt that is over.
    tokio::time::sleep(Duration::from_secs(16).saturating_sub(stopped.elapsed())).await;
    field.nodes[node].signal("-CONT");
    field.ends_as(answer, &text).await;
    // It takes part again.
    field.until_ready(2).await;
    let (status, told, _) = field.fleet.complete(&field.fleet.gateways[0], &field.key, &question(BASE, 3)).await;
    assert_eq!(status, 200, "{told}\n{}", field.nodes.iter().map(Process::log).collect::<String>());
}
