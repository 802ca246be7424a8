//! A gateway is killed while nodes answer its requests: what it had asked for ends there, another gateway writes down what was
//! delivered, and answers on.

use std::time::Instant;

use serde_json::json;

use crate::field::{Field, LIMIT};
use crate::fleet::until;
use crate::stack::BASE;
use crate::streams::{Answer, question};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_gateway_has_delivered_is_written_down_by_another_once_and_ends_on_nodes() {
    let mut field = Field::start(2, 1).await;
    let long = question(BASE, 1500);
    let mut cut = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &long).await;
    let body = question(BASE, 60);
    let mut kept = Answer::begin(&field.fleet, &field.fleet.gateways[1], &field.key, &body).await;
    cut.read(4).await;
    kept.read(4).await;
    field.until_told(&field.fleet.gateways[0]).await;
    field.fleet.gateways[0].kill();
    let killed = Instant::now();
    let (text, _) = kept.finish().await;
    let (status, again, _) = field.fleet.complete(&field.fleet.gateways[1], &field.key, &body).await;
    assert_eq!((status, again["choices"][0]["text"].as_str()), (200, Some(text.as_str())));
    let charged = field.charged(&cut.request).await;
    println!("the killed gateway's request was written down after {:?}", killed.elapsed());
    field.until_idle(&field.fleet.gateways[1]).await;
    cut.rest().await;
    let [job] = &charged["jobs"].as_array().unwrap()[..] else { panic!("{charged}") };
    assert_eq!(job["outcome"], "caller_left", "{charged}");
    let (input, output) =
        (job["charged_input_tokens"].as_u64().unwrap(), job["charged_output_tokens"].as_u64().unwrap());
    assert!(input > 0 && output >= 4, "{charged}");
    // A piece of text is a token or several; what was delivered is no more than all that the client could read.
    println!("{output} tokens were charged, and {} pieces had come", cut.num_pieces);
    assert_eq!(field.figure(&field.fleet.gateways[1], "souk_gateway_usage_adopted_total").await, 1.0);
    // When it is back it finds in its journal what it had begun, and changes nothing.
    field.fleet.gateways[0].restart();
    field.until_ready(1).await;
    let resolved = async || field.figure(&field.fleet.gateways[0], "souk_gateway_usage_written_total").await > 0.0;
    until("its journal has no more to say", LIMIT, resolved).await;
    assert_eq!(field.charged(&cut.request).await, charged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_starts_again_at_once_writes_down_what_the_one_before_had_delivered() {
    let mut field = Field::start(1, 1).await;
    let mut cut = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &question(BASE, 1500)).await;
    cut.read(4).await;
    field.until_told(&field.fleet.gateways[0]).await;
    field.fleet.gateways[0].kill();
    field.fleet.gateways[0].restart();
    let charged = field.charged(&cut.request).await;
    let [job] = &charged["jobs"].as_array().unwrap()[..] else { panic!("{charged}") };
    assert!(job["charged_output_tokens"].as_u64().unwrap() >= 4, "its journal has left it to the queue: {charged}");
    field.until_idle(&field.fleet.gateways[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_gateway_had_reserved_returns() {
    let mut field = Field::start(2, 1).await;
    // Room for one such answer and not for two.
    field.limit(3000).await;
    let most = question(BASE, 1500);
    let mut cut = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &most).await;
    cut.read(4).await;
    let (status, told, _) = field.fleet.complete(&field.fleet.gateways[1], &field.key, &most).await;
    assert_eq!(status, 429, "the other gateway knows what the first has reserved: {told}");
    field.fleet.gateways[0].kill();
    let killed = Instant::now();
    let mut short = most.clone();
    short["stop"] = json!([" "]);
    let lets_in = async || field.fleet.complete(&field.fleet.gateways[1], &field.key, &short).await.0 == 200;
    until("what was not used can be used", LIMIT, lets_in).await;
    println!("the killed gateway's reservation was back after {:?}", killed.elapsed());
}
