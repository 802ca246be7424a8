//! The Redis is killed and started again, with what it had and without. What runs goes on while it is away, new requests are
//! told soon, and are answered again by themselves.

use std::time::Instant;

use souk_testkit::redis::Redis;

use crate::field::{Field, LIMIT};
use crate::fleet::until;
use crate::stack::BASE;
use crate::streams::{Answer, question};

/// An answer that goes on while Redis is away, and a new request that is told so; then Redis is there again.
async fn outage(field: &mut Field) -> Answer {
    let mut answer = Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &question(BASE, 120)).await;
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
    field.redis.start();
    answer
}

async fn until_answered_again(field: &Field) {
    let again = async || field.fleet.complete(&field.fleet.gateways[0], &field.key, &question(BASE, 3)).await.0 == 200;
    let after = until("requests are answered again", LIMIT, again).await;
    println!("with Redis back requests were answered after {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_with_its_data_costs_no_answer() {
    let mut field = Field::start_with(&[], Redis::that_keeps_its_data(), 1, 1).await;
    let (text, _) = {
        let body = question(BASE, 120);
        Answer::begin(&field.fleet, &field.fleet.gateways[0], &field.key, &body).await.finish().await
    };
    let answer = outage(&mut field).await;
    let request = answer.request.clone();
    let (went_on, counted) = answer.finish().await;
    assert_eq!(went_on, text, "{}", field.fleet.gateways[0].log());
    until_answered_again(&field).await;
    let charged = field.charged(&request).await;
    assert_eq!(charged["jobs"].as_array().unwrap().len(), 1, "{charged}");
    assert_eq!(charged["jobs"][0]["charged_output_tokens"], counted["completion_tokens"], "{charged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_redis_that_comes_back_without_its_data_requests_are_answered_again() {
    let mut field = Field::start_with(&[], Redis::that_forgets(), 1, 1).await;
    // What ran has no lease any more, and breaks off.
    drop(outage(&mut field).await);
    until_answered_again(&field).await;
}
