//! What is kept of rows, and sums that are compared with them.

use std::time::Duration;

use sea_orm::ConnectionTrait as _;
use souk_protocol::limits::Subject;

use super::{DAY, NOON, check, count, month_of, rich, tenant, total};
use crate::support::{Stack, in_haste, wait_until};

async fn change(stack: &Stack, statement: &str) {
    stack.database().await.execute_unprepared(statement).await.unwrap();
}

#[tokio::test]
async fn a_sum_that_is_not_that_of_its_rows_is_found_and_put_right_and_gateways_take_the_new_total() {
    let stack = Stack::start().await;
    let acme = tenant("ten_acme");
    let records: Vec<_> = (0..6).map(|number| rich(&acme, "key_1", NOON + number % 2 * DAY)).collect();
    stack.registry.write_usage(&records).await.unwrap();
    stack.registry.write_usage(&[rich(&tenant("ten_other"), "key_2", NOON)]).await.unwrap();
    assert!(check(&stack, true).await.is_clean());
    let month = || month_of(Subject::Tenant(acme.clone()));
    let before = total(&stack.registry, month()).await;
    assert_eq!(before.0, 6 * 17);

    change(&stack, "UPDATE usage_days SET charged_output_tokens = charged_output_tokens + 5 WHERE tenant_id = 'ten_acme' AND day = '2026-11-15' AND outcome = 'stop'").await;
    change(&stack, "DELETE FROM usage_days WHERE tenant_id = 'ten_acme' AND day = '2026-11-16' AND outcome = 'broken'")
        .await;
    change(
        &stack,
        "UPDATE usage_totals SET amount = 1 WHERE level = 'key' AND subject_id = 'key_1' AND period = '2026-11'",
    )
    .await;
    change(
        &stack,
        "DELETE FROM usage_totals WHERE level = 'member' AND tenant_id = 'ten_other' AND period = '2026-11-15'",
    )
    .await;
    let found = check(&stack, false).await;
    let shown: Vec<_> = found.different.iter().map(|sum| (&*sum.period, &*sum.sum, sum.kept, sum.counted)).collect();
    assert!(shown.contains(&("2026-11-15", "charged_output_tokens", 14, 9)), "{shown:?}");
    assert!(shown.contains(&("2026-11-16", "jobs", 0, 3)), "{shown:?}");
    assert!(shown.contains(&("2026-11", "total", 1, 107)), "days as they are kept: {shown:?}");
    assert!(shown.contains(&("2026-11-15", "total", 0, 17)), "{shown:?}");
    assert_eq!(found.num_repaired, 0);

    let repaired = check(&stack, true).await;
    assert!(repaired.num_repaired > 0);
    let clean = check(&stack, false).await;
    assert!(clean.is_clean(), "{clean:?}");
    assert_eq!(total(&stack.registry, month()).await, before, "it was right");
    let key = month_of(Subject::Key(souk_protocol::KeyId::from_stored("key_1")));
    let (amount, version) = total(&stack.registry, key.clone()).await;
    assert_eq!(amount, 6 * 17);
    // What comes after counts on.
    stack.registry.write_usage(&[rich(&acme, "key_1", NOON)]).await.unwrap();
    assert_eq!(total(&stack.registry, key).await, (7 * 17, version + 1));
    assert!(check(&stack, false).await.is_clean());
}

#[tokio::test]
async fn old_rows_go_and_their_sums_stay_and_are_compared_no_more() {
    let stack = Stack::start_with(|config| {
        in_haste(config);
        config.settings.usage_kept = Duration::from_secs(3 * 24 * 3600);
    })
    .await;
    let now = u64::try_from(souk_protocol::wall_clock::since_epoch().as_millis()).unwrap();
    let (acme, other) = (tenant("ten_acme"), tenant("ten_other"));
    let old: Vec<_> = (4..7).map(|days| rich(&acme, "key_1", now - days * DAY)).collect();
    let young = [rich(&acme, "key_1", now), rich(&other, "key_2", now - DAY)];
    stack.registry.write_usage(&young).await.unwrap();
    stack.registry.write_usage(&old).await.unwrap();
    wait_until("old rows are gone", async || count(&stack, "usage_requests").await == 2).await;
    assert_eq!(count(&stack, "usage_jobs").await, 6, "with their jobs");
    let sum = "SELECT CAST(SUM(charged_input_tokens + charged_output_tokens) AS BIGINT) AS n FROM usage_days";
    assert_eq!(stack.number(sum).await, 5 * 17);
    let found = check(&stack, true).await;
    assert!(found.is_clean(), "{found:?}");
    assert_eq!((found.num_rows, found.num_days, found.num_closed_days), (6, 2, 3));
    // What comes late for a day that is closed is summed up, and goes like the rest of it.
    stack.registry.write_usage(&[rich(&acme, "key_9", now - 5 * DAY)]).await.unwrap();
    wait_until("it is gone, too", async || count(&stack, "usage_requests").await == 2).await;
    assert_eq!(stack.number(sum).await, 6 * 17);
    let found = check(&stack, true).await;
    assert!(found.is_clean() && found.num_closed_days == 3, "{found:?}");
}
