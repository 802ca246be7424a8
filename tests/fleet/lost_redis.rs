//! The Redis is killed and started again, with what it had and without. What runs goes on while it is away and after, new requests
//! are told soon, and are answered again by themselves.

use std::time::Instant;

use serde_json::Value;
use souk_testkit::redis::Redis;

use crate::field::{Field, LIMIT};
use crate::fleet::until;
use crate::stack::BASE;
use crate::streams::{Answer, question};

/// Tokens of an answer that takes longer than an outage.
const LONG: u32 = 160;

async fn undisturbed(field: &Field) -> String {
    let body = question(BASE, LONG);
    Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &body).await.finish().await.0
}

/// An answer that goes on while Redis is away, and a new request that is told so.
async fn outage(field: &mut Field) -> Answer {
    let mut answer = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &question(BASE, LONG)).await;
    answer.read(4).await;
    field.redis.kill();
    let killed = Instant::now();
    answer.read(8).await;
    println!("without Redis the answer went on after {:?}", killed.elapsed());
    // The limit is Redis' response time twice over: the queue's and the limits'.
    let began = Instant::now();
    let (status, told, says_when) =
        field.fleet.complete(&field.fleet.gateways[0], &field.key, &question(BASE, 3)).await;
    println!("a new request was answered {status} after {:?}", began.elapsed());
    assert!(status == 503 && says_when, "{status} {told}");
    answer
}

async fn until_answered_again(field: &Field) {
    let again = async || field.fleet.complete(&field.fleet.gateways[0], &field.key, &question(BASE, 3)).await.0 == 200;
    let after = until("requests are answered again", LIMIT, again).await;
    println!("with Redis back requests were answered after {after:?}");
}

async fn is_charged_once(field: &Field, request: &str, counted: &Value) {
    let charged = field.charged(request).await;
    assert_eq!(charged["jobs"].as_array().unwrap().len(), 1, "{charged}");
    let job = &charged["jobs"][0];
    let told = (&job["charged_input_tokens"], &job["charged_output_tokens"]);
    assert_eq!(told, (&counted["prompt_tokens"], &counted["completion_tokens"]), "{charged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_with_its_data_costs_no_answer() {
    let mut field = Field::start_with(&[], Redis::that_keeps_its_data(), 1, 1).await;
    let text = undisturbed(&field).await;
    let answer = outage(&mut field).await;
    field.redis.start();
    let request = answer.request.clone();
    let (went_on, counted) = answer.finish().await;
    assert_eq!(went_on, text, "{}", field.fleet.gateways[0].log());
    until_answered_again(&field).await;
    is_charged_once(&field, &request, &counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_redis_that_comes_back_without_its_data_answers_go_on_and_what_waited_is_answered() {
    let mut field = Field::start(1, 0).await;
    let node = field.node(0, &[("SOUK_ENGINE__MAX_SEQUENCES", "1"), ("SOUK_ENGINE__MAX_REQUESTS", "1")]);
    field.nodes.push(node);
    field.until_ready(1).await;
    let text = undisturbed(&field).await;
    // The node has room for one; the other waits in the queue.
    let mut running = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &question(BASE, LONG)).await;
    running.read(4).await;
    let waiting = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &question(BASE, LONG)).await;
    let waits = async || field.figure(&field.fleet.gateways[0], "souk_queue_queued_jobs").await == 1.0;
    until("the second waits", LIMIT, waits).await;
    field.redis.kill();
    running.read(8).await;
    field.redis.start();
    for answer in [running, waiting] {
        let request = answer.request.clone();
        let (went_on, counted) = answer.finish().await;
        assert_eq!(went_on, text, "{}", field.fleet.gateways[0].log());
        is_charged_once(&field, &request, &counted).await;
    }
    assert!(field.figure(&field.fleet.gateways[0], "souk_gateway_jobs_submitted_again_total").await >= 2.0);
    until_answered_again(&field).await;
    field.until_idle(&field.fleet.gateways[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_its_data_and_a_node_that_died_meanwhile_cost_no_answer() {
    let mut field = Field::start(1, 2).await;
    let text = undisturbed(&field).await;
    let answer = outage(&mut field).await;
    let node = field.busy_node().await;
    field.nodes[node].kill();
    field.redis.start();
    let request = answer.request.clone();
    let (went_on, counted) = answer.finish().await;
    assert_eq!(went_on, text, "{}", field.fleet.gateways[0].log());
    is_charged_once(&field, &request, &counted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_is_used_up_stays_so_over_a_redis_that_lost_its_data() {
    let mut field = Field::start(1, 1).await;
    let (status, _, _) = field.fleet.complete(&field.fleet.gateways[0], &field.key, &question(BASE, 100)).await;
    assert_eq!(status, 200);
    let unwritten =
        async || field.figure(&field.fleet.gateways[0], "souk_gateway_usage_unwritten_requests").await == 0.0;
    until("its rows are written", LIMIT, unwritten).await;
    field.limit(600).await;
    // What runs holds most of it: two more such answers have no room.
    let mut running = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &question(BASE, 300)).await;
    running.read(4).await;
    let asks = async || field.fleet.complete(&field.fleet.gateways[0], &field.key, &question(BASE, 300)).await;
    assert_eq!(asks().await.0, 429);
    field.redis.kill();
    field.redis.start();
    let mut seen = Vec::new();
    let decided = async || {
        let (status, told, _) = asks().await;
        seen.push((status, told));
        status == 429
    };
    until("budgets are known again", LIMIT, decided).await;
    // Until then nobody was let in.
    assert!(seen.iter().all(|(status, _)| [429, 503].contains(status)), "{seen:?}");
    let request = running.request.clone();
    let (_, counted) = running.finish().await;
    is_charged_once(&field, &request, &counted).await;
}
