//! Thresholds of budgets are told once.

use sea_orm::{FromQueryResult as _, JsonValue, Statement};
use serde_json::{Value, json};
use souk_protocol::{PersonId, RequestRecord, TeamId};
use souk_testkit::usage::request;

use super::{DAY, NOON};
use crate::browser::Browser;
use crate::limits::{key, set, set_tenants};
use crate::support::Stack;
use crate::teams::{manager, team};

/// What was told, in order: thresholds with their policies and what was used.
async fn told(stack: &Stack) -> Vec<Value> {
    let db = stack.database().await;
    let query = "SELECT subject, payload FROM outbox WHERE kind = 'limit.reached' ORDER BY id";
    let rows = JsonValue::find_by_statement(Statement::from_string(db.get_database_backend(), query)).all(&db).await;
    let payloads = rows.unwrap().into_iter().map(|row| {
        let payload: Value = serde_json::from_str(row["payload"].as_str().unwrap()).unwrap();
        assert_eq!(row["subject"], payload["subject"]);
        payload
    });
    payloads.collect()
}

#[tokio::test]
async fn each_threshold_of_a_budget_is_told_once_in_a_period_with_the_numbers() {
    let stack = Stack::start_with(|config| config.limits.tokens_per_day = 100).await;
    let acme = stack.principal(&stack.tenant("acme").await).await.tenant;
    let use_up = async |at_ms: u64, tokens: u32| {
        let record = request(&acme, "key_1", at_ms, (tokens, 0));
        for _ in 0..2 {
            stack.registry.write_usage(std::slice::from_ref(&record)).await.unwrap();
        }
    };
    let short = |event: &Value| (event["threshold"].as_str().unwrap().to_owned(), event["used"].as_u64().unwrap());
    use_up(NOON, 49).await;
    assert_eq!(told(&stack).await, Vec::<Value>::new());
    use_up(NOON, 1).await;
    let expected = json!({
        "level": "tenant", "subject": acme, "policy": "tokens_per_day", "period": "2026-11-15", "threshold": "50%",
        "reached_at": 50, "limit": 100, "mode": "enforce", "used": 50,
    });
    assert_eq!(told(&stack).await, [expected]);
    use_up(NOON, 20).await;
    use_up(NOON, 55).await;
    use_up(NOON, 1000).await;
    let so_far = told(&stack).await;
    let expected = [("50%", 50), ("80%", 125), ("100%", 125)].map(|(name, used)| (name.to_owned(), used));
    assert_eq!(so_far.iter().map(short).collect::<Vec<_>>(), expected);
    // Another day is another period.
    use_up(NOON + DAY, 50).await;
    let last = told(&stack).await.pop().unwrap();
    assert_eq!((short(&last), &last["period"]), (("50%".to_owned(), 50), &json!("2026-11-16")));
    assert_eq!(told(&stack).await.len(), 4);
}

#[tokio::test]
async fn each_level_tells_of_its_own_and_of_two_that_pass_a_threshold_together_one_does() {
    let stack = Stack::start().await;
    stack.tenant("acme").await;
    let acme = manager(&stack, "acme").await;
    let tenant = stack.principal(&acme).await.tenant;
    let (search, (id, _)) = (team(&acme, "search").await, key(&acme, None).await);
    let person = Browser::of_member(&stack, "acme", "developer").await.person().await;
    set_tenants(&stack, json!({ "tokens_per_month": { "value": 1000, "soft": 90 } })).await;
    for path in [format!("team/{search}"), format!("member/{person}"), format!("key/{id}")] {
        set(&acme, &path, json!({ "tokens_per_day": { "value": 200, "mode": "shadow" } })).await;
    }
    let record = || RequestRecord {
        team: Some(TeamId::from_stored(&search)),
        person: Some(PersonId::from_stored(&person)),
        ..request(&tenant, &id, NOON, (50, 0))
    };
    let batches = [[record(), record()], [record(), record()]];
    let writing = batches.iter().map(|batch| stack.registry.write_usage(batch));
    futures::future::try_join_all(writing).await.unwrap();
    let mut heard: Vec<_> = told(&stack)
        .await
        .iter()
        .map(|event| format!("{} {} {}", event["level"], event["policy"], event["threshold"]).replace('"', ""))
        .collect();
    heard.sort();
    let of_days = ["key", "member", "team"]
        .map(|level| ["100%", "50%", "80%"].map(|mark| format!("{level} tokens_per_day {mark}")));
    let expected: Vec<_> = of_days.into_iter().flatten().chain(["tenant tokens_per_month soft".to_owned()]).collect();
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn without_a_budget_nothing_is_told() {
    let stack = Stack::start_with(|config| config.limits.output_tokens_per_minute = 1).await;
    let acme = stack.principal(&stack.tenant("acme").await).await.tenant;
    stack.registry.write_usage(&[request(&acme, "key_1", NOON, (1000, 1000))]).await.unwrap();
    assert_eq!(told(&stack).await, Vec::<Value>::new());
}
