//! Redis stands still for a while and goes on: what waits, waits, and nothing else happens.

use std::time::Duration;

use futures::future::join_all;

use crate::field::Field;
use crate::stack::BASE;
use crate::streams::question;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_for_two_seconds_cuts_no_stream_and_charges_nothing_twice() {
    let field = Field::start(2, 2).await;
    let body = question(BASE, 80);
    let text = field.undisturbed(&body).await;
    let mut answers = join_all([0, 1, 0, 1].map(|gateway| field.answer(gateway, &body))).await;
    join_all(answers.iter_mut().map(|answer| answer.read(4))).await;
    field.redis.stall();
    tokio::time::sleep(Duration::from_secs(2)).await;
    field.redis.go_on();
    join_all(answers.into_iter().map(|answer| field.ends_as(answer, &text))).await;
    for (number, gateway) in field.fleet.gateways.iter().enumerate() {
        assert_eq!(field.figure(gateway, "souk_gateway_attempts_lost_total").await, 0.0, "{}", gateway.log());
        let (status, told, _) = field.ask(number, &question(BASE, 3)).await;
        assert_eq!(status, 200, "{told}");
    }
}
