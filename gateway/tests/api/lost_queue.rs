//! A queue that loses all that it knew while requests wait and run.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use souk_protocol::{GenerateJob, JobEvent, NodeId, Outcome, TokenOut};
use souk_queue::{JobQueue, NodeOrder, NodeStatus, OrderNumber, QueueConfig, RedisQueue};
use souk_redis::RedisSettings;
use souk_testkit::redis::Redis;

use crate::stack::{Around, Script, Stack, Step, answer, pool, read_until, says, sst2, tokenizer};

const SAYING: &str = "hello world";
/// Tokens that the first attempt comes to.
const BEGUN: usize = 3;

fn queue(server: &Redis) -> Arc<dyn JobQueue> {
    Arc::new(RedisQueue::new(&RedisSettings::at(server.url()), QueueConfig::default()).unwrap())
}

/// As a start without what was on the disk.
fn lose(server: &Redis) {
    server.cli(&["FLUSHALL"]);
}

fn question() -> Value {
    json!({"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 20, "stream": true})
}

/// The first attempt comes to so many tokens and hangs, the next goes on to the end.
fn hangs_first() -> Script {
    Arc::new(|job: &GenerateJob, attempt| {
        let ids = tokenizer().encode(SAYING).unwrap();
        if attempt > 1 {
            return answer(job, &ids);
        }
        let tokens = ids.iter().take(BEGUN).map(|id| TokenOut { id: *id, logprobs: None }).collect();
        vec![Step::Send(JobEvent::Started), Step::Send(JobEvent::Tokens { offset: 0, tokens }), Step::Hang]
    })
}

/// The text of a stream's events.
fn text_of(events: &str) -> String {
    let events = events.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let texts = events.map(|data| serde_json::from_str::<Value>(data).unwrap()["choices"][0]["text"].clone());
    texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

async fn undisturbed() -> (String, u64) {
    let stack = Stack::within(Around::default(), says(SAYING)).await;
    let mut body = stack.open("/v1/completions", question()).await;
    let text = text_of(&read_until(&mut body, "[DONE]").await);
    (text, stack.around.rows.wait_for(1).await[0].charge().1)
}

#[tokio::test]
async fn a_running_answer_goes_on_from_the_tokens_that_have_come_and_is_charged_once() {
    let (server, (text, charged)) = (Redis::that_forgets(), undisturbed().await);
    let stack = Stack::at_queue(queue(&server), Around::default()).await;
    let mut jobs = stack.add_node_that_tells(hangs_first()).await;
    stack.until_ready().await;
    let mut body = stack.open("/v1/completions", question()).await;
    let mut events = read_until(&mut body, "hel").await;
    lose(&server);
    events.push_str(&read_until(&mut body, "[DONE]").await);
    assert_eq!(text_of(&events), text);
    let (first, again) = (jobs.recv().await.unwrap(), jobs.recv().await.unwrap());
    assert_eq!((first.id, first.resume.len(), again.resume.len()), (again.id.clone(), 0, BEGUN));
    let left = again.time_left.unwrap();
    assert!(left < first.time_left.unwrap(), "the deadline stands");
    let rows = stack.around.rows.wait_for(1).await;
    assert_eq!((rows[0].jobs[0].outcome, rows[0].charge()), (Outcome::Stop, (3, charged)));
}

#[tokio::test]
async fn a_waiting_job_is_put_in_again_and_one_whose_caller_has_left_is_not() {
    let (server, (text, _)) = (Redis::that_forgets(), undisturbed().await);
    let stack = Stack::at_queue(queue(&server), Around::default()).await;
    let live = NodeStatus::new(NodeId::from_stored("node_2"), pool());
    stack.queue.heartbeat(live).await.unwrap();
    stack.until_ready().await;
    let mut body = stack.open("/v1/completions", question()).await;
    let left = stack.open("/v1/completions", question()).await;
    let queued = async || stack.queue.stats(pool()).await.unwrap().queued;
    assert_eq!(queued().await, 2);
    lose(&server);
    drop(left);
    while queued().await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut jobs = stack.add_node_that_tells(says(SAYING)).await;
    assert_eq!(text_of(&read_until(&mut body, "[DONE]").await), text);
    assert!(jobs.recv().await.unwrap().resume.is_empty());
    assert!(jobs.try_recv().is_err(), "nobody waits for the other");
}

#[tokio::test]
async fn versions_that_were_taken_down_are_ordered_again() {
    let server = Redis::that_forgets();
    let stack = Stack::at_queue(queue(&server), Around::default()).await;
    stack.gateway.take_down(&sst2()).await;
    let orders = async || stack.queue.next_orders(pool(), OrderNumber(0), Duration::from_secs(20)).await.unwrap();
    assert_eq!(orders().await.len(), 1);
    lose(&server);
    let again = orders().await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].order, NodeOrder::TakeDown(sst2()));
}
