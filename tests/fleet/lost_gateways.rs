//! A gateway is killed while nodes answer its requests: what it had asked for ends there, and another gateway notices nothing.

use crate::field::{Field, LIMIT};
use crate::fleet::until;
use crate::stack::BASE;
use crate::streams::{Answer, question};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_gateway_had_asked_for_ends_on_nodes_and_another_gateway_answers_on() {
    let mut field = Field::start(2, 1).await;
    let long = question(BASE, 1500);
    let mut cut = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &long).await;
    let body = question(BASE, 60);
    let mut kept = Answer::begin(&field.fleet, &field.fleet.gateways[1], &field.key, &body).await;
    cut.read(4).await;
    kept.read(4).await;
    field.fleet.gateways[0].kill();
    let (text, _) = kept.finish().await;
    let (status, again, _) = field.fleet.complete(&field.fleet.gateways[1], &field.key, &body).await;
    assert_eq!((status, again["choices"][0]["text"].as_str()), (200, Some(text.as_str())));
    let idle = async || field.figure(&field.nodes[0], "souk_engine_running_sequences").await == 0.0;
    let after = until("the node runs nothing any more", LIMIT, idle).await;
    println!("the node had let go of the killed gateway's answer after {after:?}");
    // When it is back it counts what it had begun, once and free, as its journal says.
    field.fleet.gateways[0].restart();
    field.until_ready(1).await;
    let charged = field.charged(&cut.request).await;
    assert_eq!(charged["jobs"].as_array().unwrap().len(), 1, "{charged}");
    assert_eq!(charged["jobs"][0]["charged_output_tokens"], 0, "{charged}");
}
