//! Thresholds of budgets are told once.

use sea_orm::{FromQueryResult as _, JsonValue, Statement};
use serde_json::{Value, json};
use souk_testkit::usage::request;

use super::{DAY, NOON};
use crate::support::Stack;

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
async fn without_a_budget_nothing_is_told() {
    let stack = Stack::start_with(|config| config.limits.output_tokens_per_minute = 1).await;
    let acme = stack.principal(&stack.tenant("acme").await).await.tenant;
    stack.registry.write_usage(&[request(&acme, "key_1", NOON, (1000, 1000))]).await.unwrap();
    assert_eq!(told(&stack).await, Vec::<Value>::new());
}
