use std::time::Duration;

use souk_protocol::{FinishReason, GatewayId, JobFailure, RequestId, TokenOut, Usage};
use tokio::time::timeout;

use super::*;

fn tokens(offset: u32, ids: &[u32]) -> JobEvent {
    JobEvent::Tokens { offset, tokens: ids.iter().map(|id| TokenOut { id: *id, logprobs: None }).collect() }
}

fn finished() -> JobEvent {
    JobEvent::Finished { reason: FinishReason::Stop, usage: Usage::default() }
}

fn job() -> JobId {
    JobId { request: RequestId::new(), index: 0 }
}

fn reply_to() -> ReplyTo {
    GatewayId::new().into()
}

/// A hub, a subscription of this depth, and a way to open sinks.
fn open(capacity: usize) -> (Subscription, impl Fn(u32) -> Box<dyn EventSink>) {
    let (hub, job) = (EventHub::new(), job());
    let subscription = hub.subscribe(job.clone(), capacity);
    (subscription, move |attempt| hub.sink(&reply_to(), &job, attempt))
}

#[tokio::test]
async fn a_later_attempt_takes_over_without_gap_or_repeat() {
    let (mut subscription, sink) = open(16);
    let (first, second) = (sink(1), sink(2));
    first.send(tokens(0, &[10, 11])).unwrap();
    second.send(tokens(0, &[10])).unwrap();
    second.send(tokens(1, &[11, 12])).unwrap();
    assert_eq!(first.send(tokens(2, &[99])), Err(Gone), "the first attempt is a zombie now");
    assert!(first.is_closed() && !second.is_closed());
    second.send(finished()).unwrap();
    let mut got = Vec::new();
    while let Some(event) = subscription.next().await {
        got.push(event);
    }
    assert_eq!(got, [(1, tokens(0, &[10, 11])), (2, tokens(2, &[12])), (2, finished())]);
    assert_eq!((second.closed(), second.taken().await), (Some(Closed::Complete), Closed::Complete));
}

#[tokio::test]
async fn an_attempt_that_is_lost_is_told_once_with_what_has_come_and_sends_no_more() {
    let (hub, job) = (EventHub::new(), job());
    let mut losses = hub.losses();
    let mut subscription = hub.subscribe(job.clone(), 16);
    let sink = hub.sink(&reply_to(), &job, 1);
    sink.send(tokens(0, &[7, 8])).unwrap();
    let dealt_with = hub.lose(&job, 1);
    hub.lose(&job, 1).await;
    assert_eq!((sink.send(tokens(2, &[9])), sink.closed()), (Err(Gone), Some(Closed::Lost)));
    let loss = losses.next().await;
    assert_eq!((&loss.job, loss.attempt, &loss.tokens), (&job, 1, &vec![7, 8]));
    assert_eq!(subscription.tokens(), [7, 8], "read or not");
    let mut dealt_with = tokio::spawn(dealt_with);
    assert!(timeout(Duration::from_millis(20), &mut dealt_with).await.is_err(), "it is being dealt with");
    drop(loss);
    dealt_with.await.unwrap();
    let next = hub.sink(&reply_to(), &job, 2);
    next.send(tokens(2, &[9])).unwrap();
    assert_eq!(subscription.next().await, Some((1, tokens(0, &[7, 8]))));
    assert_eq!(subscription.next().await, Some((2, tokens(2, &[9]))));
    assert!(timeout(Duration::from_millis(20), losses.next()).await.is_err(), "one loss, told once");
}

#[tokio::test]
async fn a_hole_in_the_tokens_is_a_loss_of_the_attempt() {
    let (hub, job) = (EventHub::new(), job());
    let mut losses = hub.losses();
    let _subscription = hub.subscribe(job.clone(), 16);
    let sink = hub.sink(&reply_to(), &job, 1);
    sink.send(tokens(0, &[7])).unwrap();
    assert_eq!(sink.send(tokens(2, &[9])), Err(Gone));
    assert_eq!(losses.next().await.tokens, [7]);
}

#[tokio::test]
async fn a_loss_that_nobody_hears_of_or_cares_for_is_no_wait() {
    let (hub, job) = (EventHub::new(), job());
    hub.lose(&job, 1).await;
    let subscription = hub.subscribe(job.clone(), 16);
    hub.hand_over(&reply_to(), &job, 1).await;
    drop(subscription);
    let _losses = hub.losses();
    hub.lose(&job, 2).await;
}

#[test]
fn dropping_the_subscription_closes_the_sink() {
    let (subscription, sink) = open(16);
    let sink = sink(1);
    assert!(!sink.is_closed());
    drop(subscription);
    assert_eq!(sink.closed(), Some(Closed::Unwanted));
    assert_eq!(sink.send(JobEvent::Started), Err(Gone));
}

#[test]
fn a_sink_to_nobody_is_closed_from_the_start() {
    let (subscription, sink) = open(16);
    drop(subscription);
    assert!(sink(1).is_closed());
}

#[tokio::test]
async fn an_overflow_ends_the_stream_rather_than_leave_a_hole() {
    let (mut subscription, sink) = open(1);
    let sink = sink(1);
    sink.send(tokens(0, &[1])).unwrap();
    assert_eq!(sink.send(tokens(1, &[2])), Err(Gone));
    assert_eq!(subscription.next().await, Some((1, tokens(0, &[1]))));
    assert_eq!(sink.send(tokens(2, &[3])), Err(Gone), "room again, but the second token is lost");
    assert_eq!(subscription.next().await, None);
}

#[test]
fn nothing_follows_the_last_event() {
    let (_subscription, sink) = open(16);
    sink(1).send(JobEvent::Failed(JobFailure::ShuttingDown)).unwrap();
    assert_eq!(sink(2).send(tokens(0, &[1])), Err(Gone));
}

#[tokio::test]
async fn what_has_come_is_known_by_its_tokens_and_the_highest_attempt_that_was_heard_of() {
    let (hub, job) = (EventHub::new(), job());
    assert_eq!(hub.so_far(&job), None);
    let subscription = hub.subscribe(job.clone(), 8);
    assert_eq!(hub.so_far(&job), Some(SoFar { tokens: vec![], attempts: 0 }));
    let first = hub.sink(&reply_to(), &job, 1);
    first.send(tokens(0, &[7])).unwrap();
    drop(hub.lose(&job, 1));
    assert_eq!(hub.so_far(&job), Some(SoFar { tokens: vec![7], attempts: 1 }), "a loss is no attempt");
    let _second = hub.sink(&reply_to(), &job, 3);
    assert_eq!(hub.so_far(&job), Some(SoFar { tokens: vec![7], attempts: 3 }), "before it says anything");
    drop(subscription);
    assert_eq!(hub.so_far(&job), None);
}
