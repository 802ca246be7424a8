//! A database that is away: answers go on, budgets stay held, rows come later.

#[cfg(has_postgres)]
use std::time::Duration;

#[cfg(has_postgres)]
use futures::StreamExt as _;
#[cfg(has_postgres)]
use souk_testkit::postgres::Postgres;

#[cfg(has_postgres)]
use crate::calls::{End, ask, question};
#[cfg(has_postgres)]
use crate::rows::until_settled;
#[cfg(has_postgres)]
use crate::stack::Stack;

#[cfg(has_postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_answers_go_on_and_their_rows_come_when_it_is_back() {
    let mut postgres = Postgres::private();
    let database = postgres.database();
    let url = database.url();
    let stack = Stack::start_with(&[
        ("SOUK_REGISTRY__DATABASE__URL", url.as_str()),
        ("SOUK_REGISTRY__DATABASE__SSLMODE", "disable"),
        ("SOUK_LIMITS__TOKENS_PER_MONTH", "1000"),
        ("SOUK_GATEWAY__RIGHTS_STALE_S", "60"),
    ]);
    let End::Answered(input, output) = ask(&stack.http(), &stack.url, &question(3, 1, false), None).await.end else {
        panic!("no answer\n{}", stack.log())
    };
    until_settled(&stack).await;
    let rows = || database.psql("SELECT count(*), sum(charged_output_tokens) FROM usage_requests").trim().to_owned();
    assert_eq!(rows(), format!("1|{output}"));
    // It is under way when the database goes, and ends before that is back.
    let body = question(300, 1, true);
    let answer = stack.http().post(format!("{}/v1/completions", stack.url)).json(&body).send().await.unwrap();
    let mut stream = answer.bytes_stream();
    stream.next().await.unwrap().unwrap();
    postgres.stop();
    let mut text = String::new();
    while let Some(part) = stream.next().await {
        text += std::str::from_utf8(&part.unwrap()).unwrap();
    }
    assert!(text.trim_end().ends_with("[DONE]"), "{text}");
    let unwritten = async || stack.metric("souk_gateway_usage_unwritten_requests").await;
    while unwritten().await == 0.0 || stack.metric("souk_gateway_usage_write_failures_total").await < 2.0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(stack.metric("souk_gateway_limits_holding_requests").await, 1.0, "what it used stays held");
    // Who is known is let in, and what is held still binds.
    let known = ask(&stack.http(), &stack.url, &question(3, 1, false), None).await.end;
    assert_eq!(known, End::Answered(input, 3), "{}", stack.log());
    let beyond = ask(&stack.http(), &stack.url, &question(690, 1, false), None).await.end;
    assert_eq!(beyond, End::Refused(429, "insufficient_quota".to_owned()));
    assert!(stack.metric("souk_gateway_rights_stale_total").await > 0.0);
    postgres.start();
    until_settled(&stack).await;
    assert_eq!(rows(), format!("3|{}", output + 303));
    // What is left of the month is what the rows leave.
    let left = 1000 - 3 * input - output - 303;
    let too_much =
        ask(&stack.http(), &stack.url, &question(u64::try_from(left - input + 1).unwrap(), 1, false), None).await;
    assert_eq!(too_much.end, End::Refused(429, "insufficient_quota".to_owned()));
}
