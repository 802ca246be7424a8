//! What is written of each request, whoever leaves and whatever breaks, and what becomes of it over kills and a database that is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use souk_protocol::{GenerateJob, JobEvent, JobFailure, Outcome, RequestRecord};

use crate::stack::{Around, HttpAnswer, KEY, Script, Stack, Step, answer, read_until, says, sst2, tokenizer};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const SAYING: &str = "hello world";

fn chat(stream: bool, more: &Value) -> Value {
    let mut body = json!({"model": "acme/sst2", "messages": [{"role": "user", "content": "hello"}], "stream": stream});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Prompt and completion tokens, as the caller is told.
fn usage_of(reply: &HttpAnswer, stream: bool) -> (u64, u64) {
    let usage = if stream {
        let events = reply.events();
        events.iter().rev().find_map(|event| event.get("usage").filter(|usage| usage.is_object()).cloned()).unwrap()
    } else {
        reply.json()["usage"].clone()
    };
    (usage["prompt_tokens"].as_u64().unwrap(), usage["completion_tokens"].as_u64().unwrap())
}

fn slowly(pause: Duration) -> Script {
    Arc::new(move |job, _| {
        let steps = answer(job, &tokenizer().encode(SAYING).unwrap()).into_iter();
        steps.flat_map(|step| [step, Step::Wait(pause)]).collect()
    })
}

#[tokio::test]
async fn what_an_answer_says_it_used_is_what_its_row_says() {
    let stack = Stack::within(Around::default(), says(SAYING)).await;
    let mut told = Vec::new();
    for more in
        [json!({}), json!({"max_tokens": 3}), json!({"stop": " w"}), json!({"n": 3}), json!({"n": 2, "max_tokens": 1})]
    {
        for stream in [false, true] {
            let mut more = more.clone();
            if stream {
                more["stream_options"] = json!({"include_usage": true});
            }
            let reply = stack.post(CHAT, chat(stream, &more)).await;
            told.push(usage_of(&reply, stream));
            let rows = stack.around.rows.wait_for(told.len()).await;
            let row = rows.last().unwrap();
            assert_eq!(row.charge(), *told.last().unwrap(), "{more} {stream}");
            assert_eq!((row.operation.as_str(), row.model.as_str()), ("chat.completion", "acme/sst2"));
            assert_eq!(row.jobs.len() as u64, more["n"].as_u64().unwrap_or(1));
            assert_eq!(row.jobs.iter().filter(|job| job.counts_prompt).count(), 1, "a prompt counts once");
            assert!(row.jobs.iter().all(|job| job.adapters == [sst2()]));
        }
    }
    // Streams and whole answers cost the same.
    for pair in told.chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
}

#[tokio::test]
async fn each_of_several_prompts_counts_once_for_all_its_choices() {
    let stack = Stack::within(Around::default(), says(SAYING)).await;
    let body = json!({"model": "tiny", "prompt": [[5, 6, 7], [5]], "n": 2, "max_tokens": 4});
    let reply = stack.post(TEXT, body).await;
    let rows = stack.around.rows.wait_for(1).await;
    assert_eq!(usage_of(&reply, false), (4, 16));
    assert_eq!(rows[0].charge(), (4, 16));
    assert_eq!(rows[0].jobs.iter().map(|job| job.job.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(rows[0].request.as_str(), reply.headers["x-request-id"].to_str().unwrap());
}

fn fails_after(num_tokens: usize, failure: JobFailure) -> Script {
    Arc::new(move |job: &GenerateJob, _| {
        let mut steps = answer(job, &tokenizer().encode(SAYING).unwrap());
        steps.truncate(1 + num_tokens);
        steps.push(Step::Send(JobEvent::Failed(failure.clone())));
        steps
    })
}

/// Outcome and charge of the one job of a request.
fn end(record: &RequestRecord) -> (Outcome, (u64, u64)) {
    assert_eq!(record.jobs.len(), 1);
    (record.jobs[0].outcome, record.charge())
}

#[tokio::test]
async fn every_end_costs_what_the_table_says() {
    let prompt = {
        let stack = Stack::within(Around::default(), says(SAYING)).await;
        usage_of(&stack.post(CHAT, chat(false, &json!({}))).await, false).0
    };
    for (failure, num_tokens, outcome) in [
        (JobFailure::DeadlineExceeded, 0, Outcome::TimedOut),
        (JobFailure::DeadlineExceeded, 2, Outcome::Deadline),
        (JobFailure::TakenDown, 2, Outcome::TakenDown),
        (JobFailure::KeyRevoked, 2, Outcome::KeyRevoked),
        (JobFailure::Internal("no".to_owned()), 0, Outcome::Failed),
        (JobFailure::Internal("no".to_owned()), 2, Outcome::Broken),
        (JobFailure::Constraint("no such class".to_owned()), 0, Outcome::Refused),
    ] {
        for stream in [false, true] {
            let stack = Stack::within(Around::default(), fails_after(num_tokens, failure.clone())).await;
            stack.post(CHAT, chat(stream, &json!({}))).await;
            let rows = stack.around.rows.wait_for(1).await;
            let is_charged = outcome.charge(rows[0].jobs[0].usage, num_tokens as u32).input_tokens > 0;
            let charge = if is_charged { (prompt, num_tokens as u64) } else { (0, 0) };
            assert_eq!(end(&rows[0]), (outcome, charge), "{failure} {stream}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_pays_for_the_prompt_and_what_it_was_sent() {
    let mut stack = Stack::within(Around::default(), slowly(Duration::from_millis(20))).await;
    let mut body = stack.open(CHAT, chat(true, &json!({}))).await;
    read_until(&mut body, "hello").await;
    drop(body);
    let (_, _, usage) = stack.settled.recv().await.unwrap();
    let rows = stack.around.rows.wait_for(1).await;
    let job = &rows[0].jobs[0];
    assert_eq!(job.outcome, Outcome::CallerLeft);
    assert_eq!(rows[0].charge(), (u64::from(usage.prompt_tokens), u64::from(job.delivered_tokens)));
    assert!(job.delivered_tokens > 0 && job.delivered_tokens <= job.usage.completion_tokens);
}

#[tokio::test]
async fn running_answers_of_a_key_that_is_revoked_and_a_version_that_is_taken_down_are_written_as_such() {
    for is_key in [true, false] {
        let stack = Stack::within(Around::default(), slowly(Duration::from_millis(50))).await;
        let mut body = stack.open(CHAT, chat(true, &json!({}))).await;
        read_until(&mut body, "hello").await;
        if is_key {
            stack.gateway.end_key(&souk_protocol::KeyId::from_stored("key_1")).await;
        } else {
            stack.gateway.take_down(&sst2()).await;
        }
        read_until(&mut body, "event: error").await;
        drop(body);
        let rows = stack.around.rows.wait_for(1).await;
        let expected = if is_key { Outcome::KeyRevoked } else { Outcome::TakenDown };
        let (outcome, charge) = end(&rows[0]);
        assert_eq!(outcome, expected);
        assert_eq!(charge.1, u64::from(rows[0].jobs[0].delivered_tokens));
        assert!(charge.0 > 0 && charge.1 > 0, "in mid-answer both are charged");
    }
}

#[tokio::test]
async fn while_the_database_is_away_answers_go_on_and_their_rows_come_later() {
    let stack = Stack::within(Around::default(), says(SAYING)).await;
    stack.around.rows.go_away(true);
    for _ in 0..5 {
        assert_eq!(stack.post(CHAT, chat(false, &json!({}))).await.status, 200);
    }
    while stack.around.rows.num_writes() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stack.accounting.num_unwritten(), 5);
    assert_eq!(stack.accounting.num_holding(), 5, "what was used stays held");
    stack.around.rows.go_away(false);
    stack.around.rows.wait_for(5).await;
    stack.accounting.close(Duration::from_secs(5)).await;
    assert_eq!((stack.accounting.num_unwritten(), stack.accounting.num_holding()), (0, 0));
}

#[tokio::test]
async fn a_batch_whose_answer_is_lost_is_written_once() {
    let stack = Stack::within(Around::default(), says(SAYING)).await;
    stack.around.rows.lose_an_answer();
    let reply = stack.post(CHAT, chat(false, &json!({}))).await;
    stack.gateway.drain().await;
    stack.accounting.close(Duration::from_secs(5)).await;
    assert_eq!(stack.accounting.num_unwritten(), 0);
    assert!(stack.around.rows.num_writes() >= 2);
    assert_eq!(stack.around.rows.charged(), usage_of(&reply, false));
    let totals = stack.around.rows.wait_for(1).await;
    assert_eq!(totals.len(), 1);
}

#[tokio::test]
async fn a_request_that_the_database_will_never_take_is_set_aside_and_holds_up_nobody() {
    let stack = Stack::within(Around::default(), says(SAYING)).await;
    stack.around.rows.go_away(true);
    let mut requests = Vec::new();
    for _ in 0..3 {
        let reply = stack.post(CHAT, chat(false, &json!({}))).await;
        requests.push(souk_protocol::RequestId::from_stored(reply.headers["x-request-id"].to_str().unwrap()));
    }
    stack.around.rows.refuse(&requests[1]);
    stack.around.rows.go_away(false);
    let rows = stack.around.rows.wait_for(2).await;
    assert!(rows.iter().all(|row| row.request != requests[1]));
    stack.accounting.close(Duration::from_secs(5)).await;
    assert_eq!((stack.accounting.num_unwritten(), stack.accounting.num_holding()), (0, 0));
    let aside = std::fs::read_to_string(stack.around.folder.path().join("journal/1/refused.log")).unwrap();
    assert!(aside.contains(requests[1].as_str()) && aside.lines().count() == 1, "{aside}");
}

#[tokio::test]
async fn what_a_killed_process_settled_is_written_by_the_next_and_what_it_had_under_way_is_free() {
    let around = Around::limited(&[(souk_protocol::Policy::TokensPerMonth, 1000)]);
    around.rows.go_away(true);
    let trees = around.trees.replace(HashMap::new());
    let stack = Stack::within(around, slowly(Duration::from_millis(50))).await;
    let told = usage_of(&stack.post(CHAT, chat(false, &json!({}))).await, false);
    let mut body = stack.open(CHAT, chat(true, &json!({"n": 2}))).await;
    read_until(&mut body, "hello").await;
    while stack.accounting.num_unwritten() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // As a kill would leave it: the folder as it is now, and nothing of the memory.
    let left = around_of_a_copy(&stack);
    left.trees.replace(trees);
    let next = Stack::within(left.clone(), says(SAYING)).await;
    // The queue is asked what became of what was under way, and knows nothing of it.
    while next.accounting.num_unwritten() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    left.rows.go_away(false);
    let rows = left.rows.wait_for(2).await;
    let lost = rows.iter().find(|row| row.jobs.len() == 2).unwrap();
    assert!(lost.jobs.iter().all(|job| job.outcome == Outcome::Failed), "{lost:?}");
    assert_eq!(left.rows.charged(), told);
    next.accounting.close(Duration::from_secs(5)).await;
    assert_eq!((next.accounting.num_holding(), left.limits.holdings()), (0, 0));
}

/// What another process finds of this one, were it killed now.
fn around_of_a_copy(stack: &Stack) -> Around {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (stack.around.folder.path().join("journal/1"), folder.path().join("journal/1"));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    Around { folder: Arc::new(folder), ..stack.around.after_a_kill() }
}

#[tokio::test]
async fn what_the_process_before_used_is_held_before_anybody_is_let_in() {
    let around = Around::limited(&[(souk_protocol::Policy::TokensPerMonth, 60)]);
    let stack = Stack::within(around, says(SAYING)).await;
    // The total is known, and then the database goes away.
    let body = json!({"model": "tiny", "prompt": vec![5; 20], "max_tokens": 20});
    assert_eq!(stack.post(TEXT, body.clone()).await.status, 200);
    stack.around.rows.wait_for(1).await;
    stack.around.rows.go_away(true);
    assert_eq!(stack.post(TEXT, json!({"model": "tiny", "prompt": vec![5; 10], "max_tokens": 7})).await.status, 200);
    while stack.accounting.num_unwritten() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = around_of_a_copy(&stack);
    let next = Stack::within(left.clone(), says(SAYING)).await;
    // Nobody knows yet what the month has used.
    assert_eq!(next.post(TEXT, body.clone()).await.status, 503);
    left.rows.go_away(false);
    // 42 of 60 are used, whether the rows of 16 of them are written by now or not.
    let refused = next.post(TEXT, body).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    let violated = &refused.json()["error"]["violated_policies"][0];
    assert_eq!(violated["used"].as_u64().unwrap() + violated["held"].as_u64().unwrap(), 42);
}

#[tokio::test]
async fn a_drain_waits_until_what_was_used_is_in_the_journal() {
    let stack = Stack::within(Around::default(), slowly(Duration::from_millis(10))).await;
    stack.around.rows.go_away(true);
    let answering = {
        let (router, body) = (stack.router.clone(), chat(false, &json!({})).to_string());
        tokio::spawn(async move {
            use tower::ServiceExt as _;
            router.oneshot(crate::stack::request("POST", CHAT, KEY, body)).await.unwrap().status()
        })
    };
    while stack.accounting.num_holding() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stack.gateway.drain().await;
    assert_eq!(answering.await.unwrap(), 200);
    stack.accounting.close(Duration::from_millis(50)).await;
    let next = Stack::within(around_of_a_copy(&stack), says(SAYING)).await;
    assert_eq!(next.accounting.num_unwritten(), 1);
}
