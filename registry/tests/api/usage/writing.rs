//! Rows are written once, whoever writes them and however often, and sums are those of rows.

use proptest::prelude::*;
use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_protocol::limits::{Policy, Subject};
use souk_protocol::{Digest, KeyId, Outcome, PersonId, RequestId, RequestRecord, Shadowed, TeamId, TenantId};
use souk_registry::RegistryError;
use souk_testkit::usage::{job, request};

use super::{DAY, NOON, check, count, day_of, month_of, rich, tenant, total};
use crate::services::{service, with_token};
use crate::support::{Stack, body, problem};

#[tokio::test]
async fn a_request_counts_once_at_each_level_in_its_day_and_its_month() {
    let stack = Stack::start().await;
    let acme = tenant("ten_acme");
    let record = rich(&acme, "key_1", NOON);
    assert_eq!(record.charge(), (10, 7));
    let first = stack.registry.write_usage(std::slice::from_ref(&record)).await.unwrap();
    assert_eq!(first.len(), 8, "four levels, a day and a month each");
    assert!(first.iter().all(|total| (total.amount, total.version) == (17, 1)), "{first:?}");
    // Sent again, alone and among others, it is answered and counts no second time.
    let again = stack.registry.write_usage(std::slice::from_ref(&record)).await.unwrap();
    assert_eq!(again, first);
    let late = rich(&acme, "key_1", NOON + DAY);
    let both = stack.registry.write_usage(&[record.clone(), late, record]).await.unwrap();
    let person = PersonId::from_stored("per_1");
    for subject in [
        Subject::Tenant(acme.clone()),
        Subject::Team(TeamId::from_stored("team_1")),
        Subject::Member(acme.clone(), person.clone()),
        Subject::Key(KeyId::from_stored("key_1")),
    ] {
        assert_eq!(total(&stack.registry, day_of(subject.clone())).await, (17, 1), "{subject:?}");
        let month = month_of(subject);
        assert_eq!(total(&stack.registry, month.clone()).await, (34, 2));
        assert!(both.iter().any(|total| total.key == month && total.amount == 34));
    }
    assert_eq!(total(&stack.registry, month_of(Subject::Member(tenant("ten_other"), person))).await, (0, 0));
    assert_eq!((count(&stack, "usage_requests").await, count(&stack, "usage_jobs").await), (2, 6));
    let days = "SELECT CAST(SUM(requests * 1000000 + jobs * 10000 + charged_input_tokens * 100 + charged_output_tokens) AS BIGINT) \
                AS n FROM usage_days";
    assert_eq!(stack.number(days).await, 2_062_014, "two requests, six jobs, twice 10 and 7");
    let found = check(&stack, false).await;
    assert!(found.is_clean(), "{found:?}");
    assert_eq!((found.num_rows, found.num_days, found.num_closed_days), (6, 2, 0));
}

#[tokio::test]
async fn what_costs_nothing_is_a_row_and_moves_no_total() {
    let stack = Stack::start().await;
    let acme = tenant("ten_acme");
    let mut free = request(&acme, "ses_1", NOON, (10, 0));
    free.jobs[0].outcome = Outcome::Failed;
    let totals = stack.registry.write_usage(&[free]).await.unwrap();
    assert_eq!(totals.len(), 2, "a session is no level of its own");
    assert!(totals.iter().all(|total| (total.amount, total.version) == (0, 0)), "{totals:?}");
    assert_eq!((count(&stack, "usage_jobs").await, count(&stack, "usage_totals").await), (1, 0));
    assert!(check(&stack, false).await.is_clean());
    assert!(stack.registry.write_usage(&[]).await.unwrap().is_empty());
    assert!(stack.registry.usage_totals(&[]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_send_the_same_in_any_order_write_each_once_and_none_waits_for_ever() {
    let stack = Stack::start().await;
    let tenants = [tenant("ten_a"), tenant("ten_b"), tenant("ten_c")];
    let records: Vec<RequestRecord> = (0..120)
        .map(|number| rich(&tenants[number % 3], &format!("key_{}", number % 7), NOON + (number as u64 % 3) * DAY))
        .collect();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (registry, mut records) = (stack.registry.clone(), records.clone());
        writers.spawn(async move {
            records.rotate_left(writer * 30);
            if writer % 2 == 1 {
                records.reverse();
            }
            for batch in records.chunks(17) {
                // A batch that was refused for others to go on is sent again, as a gateway does.
                let mut num_refused = 0;
                while let Err(error) = registry.write_usage(batch).await {
                    num_refused += 1;
                    assert!(num_refused < 50, "{error:?}");
                }
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    for one in &tenants {
        assert_eq!(total(&stack.registry, month_of(Subject::Tenant(one.clone()))).await.0, 40 * 17);
    }
    assert_eq!((count(&stack, "usage_requests").await, count(&stack, "usage_jobs").await), (120, 360));
    let found = check(&stack, false).await;
    assert!(found.is_clean(), "{found:?}");
}

#[tokio::test]
async fn a_record_that_no_gateway_makes_is_refused_by_name_with_all_of_its_batch() {
    let stack = Stack::start().await;
    let acme = tenant("ten_acme");
    let good = request(&acme, "key_1", NOON, (1, 1));
    let wrong = |change: fn(&mut RequestRecord)| {
        let mut record = rich(&tenant("ten_acme"), "key_1", NOON);
        change(&mut record);
        record
    };
    for (record, told) in [
        (wrong(|record| record.jobs.clear()), "it has no jobs"),
        (wrong(|record| record.tenant = TenantId::from_stored("ten_other")), "job 0 is of another request"),
        (wrong(|record| record.request = RequestId::new()), "job 0 is of another request"),
        (wrong(|record| record.jobs.swap(0, 1)), "job 0 has the index 1"),
        (wrong(|record| record.jobs[2].job.index = 1), "job 2 has the index 1"),
        (wrong(|record| record.key = KeyId::from_stored("k".repeat(41))), "`key` is no id"),
        (wrong(|record| record.person = Some(PersonId::from_stored(""))), "`person` is no id"),
        (wrong(|record| record.team = Some(TeamId::from_stored("a\0"))), "`team` is no id"),
    ] {
        let id = record.request.to_string();
        match stack.registry.write_usage(&[good.clone(), record]).await {
            Err(RegistryError::BadRequest { code: "invalid_usage", detail, .. }) => {
                assert!(detail.contains(told) && detail.contains(&id), "{detail}");
            }
            other => panic!("{told}: {other:?}"),
        }
    }
    assert_eq!(count(&stack, "usage_requests").await, 0);
}

#[tokio::test]
async fn texts_and_numbers_of_any_size_are_kept_as_far_as_there_is_room() {
    let stack = Stack::start().await;
    let acme = tenant("ten_acme");
    let mut record = request(&acme, "key_1", NOON, (u32::MAX, u32::MAX - 1));
    record.model = "a\0é".repeat(1000);
    record.operation = "x".repeat(100);
    record.ended_at_ms = u64::MAX;
    record.jobs[0].took = std::time::Duration::MAX;
    record.jobs[0].attempts = u32::MAX;
    record.jobs[0].adapters = (0..16_u8).map(|number| Digest::of(&[number])).collect();
    record.shadowed = vec![Shadowed { subject: Subject::Tenant(acme.clone()), policy: Policy::TokensPerDay }];
    stack.registry.write_usage(&[record]).await.unwrap();
    let amount = u64::from(u32::MAX) * 2 - 1;
    assert_eq!(total(&stack.registry, month_of(Subject::Tenant(acme))).await, (amount, 1));
    assert_eq!(stack.number("SELECT LENGTH(model) AS n FROM usage_requests").await, 400);
    assert!(check(&stack, false).await.is_clean());
}

#[tokio::test]
async fn a_repeat_finds_the_request_that_was_charged_within_a_day() {
    let stack = Stack::start().await;
    let (acme, now) = (tenant("ten_acme"), now_ms());
    let repeat = |name: &str| Digest::of(name.as_bytes());
    let with = |name: &str, at_ms: u64, outcome: Outcome| {
        let mut record = request(&acme, "key_1", at_ms, (5, 5));
        record.repeat = Some(repeat(name));
        record.jobs[0].outcome = outcome;
        record
    };
    let first = with("charged", now - 1000, Outcome::Stop);
    let later = with("charged", now, Outcome::Stop);
    let records =
        [later, first.clone(), with("free", now, Outcome::Failed), with("old", now - DAY - 60_000, Outcome::Stop)];
    stack.registry.write_usage(&records).await.unwrap();
    let found = async |of: &TenantId, name: &str| stack.registry.repeated_request(of, repeat(name)).await.unwrap();
    assert_eq!(found(&acme, "charged").await, Some(first.request));
    for name in ["free", "old", "none"] {
        assert_eq!(found(&acme, name).await, None, "{name}");
    }
    assert_eq!(found(&tenant("ten_other"), "charged").await, None);
}

#[tokio::test]
async fn a_gateway_writes_and_asks_over_http() {
    let stack = Stack::start().await;
    let (_, key) = service(&stack, "gateway-1").await;
    let gateway = with_token(&stack, &key).await;
    let acme = tenant("ten_acme");
    let mut record = rich(&acme, "key_1", now_ms());
    record.repeat = Some(Digest::of(b"k"));
    let asked = json!({ "requests": [record] });
    let written = body(gateway.post("/internal/usage", asked.clone()).await, StatusCode::OK).await;
    assert_eq!(written["totals"].as_array().unwrap().len(), 8);
    assert_eq!(body(gateway.post("/internal/usage", asked).await, StatusCode::OK).await, written);
    let keys: Vec<&Value> = written["totals"].as_array().unwrap().iter().map(|total| &total["key"]).collect();
    let totals = gateway.post("/internal/usage/totals", json!({ "keys": keys })).await;
    assert_eq!(body(totals, StatusCode::OK).await, written);
    let repeated = json!({ "tenant": acme, "repeat": Digest::of(b"k").to_string() });
    let repeated = body(gateway.post("/internal/usage/repeated", repeated).await, StatusCode::OK).await;
    assert_eq!(repeated, record.request.as_str());
    let none = json!({ "tenant": acme, "repeat": Digest::of(b"x").to_string() });
    assert_eq!(body(gateway.post("/internal/usage/repeated", none).await, StatusCode::OK).await, Value::Null);

    // A batch may be far larger than other bodies; there is an end to it all the same.
    let many: Vec<_> = (0..500).map(|_| request(&acme, "key_1", now_ms(), (1, 1))).collect();
    let written = gateway.post("/internal/usage", json!({ "requests": many })).await;
    assert_eq!(body(written, StatusCode::OK).await["totals"].as_array().unwrap().len(), 4);
    let more = json!({ "requests": (0..501).map(|_| request(&acme, "key_1", 0, (1, 1))).collect::<Vec<_>>() });
    problem(gateway.post("/internal/usage", more).await, StatusCode::BAD_REQUEST, "invalid_body").await;
    for wrong in [json!({}), json!({ "requests": [{}] }), json!({ "requests": "x" })] {
        problem(gateway.post("/internal/usage", wrong).await, StatusCode::BAD_REQUEST, "invalid_body").await;
    }
    let mut invalid = record.clone();
    invalid.jobs.clear();
    let invalid = gateway.post("/internal/usage", json!({ "requests": [invalid] })).await;
    problem(invalid, StatusCode::BAD_REQUEST, "invalid_usage").await;
    let unknown = json!({ "keys": [{ "subject": { "tenant": "ten_x" }, "period": "2026-13", "unit": "tokens" }] });
    problem(gateway.post("/internal/usage/totals", unknown).await, StatusCode::BAD_REQUEST, "invalid_body").await;
    let many = json!({ "keys": vec![keys[0]; 201] });
    problem(gateway.post("/internal/usage/totals", many).await, StatusCode::BAD_REQUEST, "invalid_body").await;
}

fn now_ms() -> u64 {
    u64::try_from(souk_protocol::wall_clock::since_epoch().as_millis()).unwrap()
}

/// A request as a gateway may have to write it.
fn any_request() -> impl Strategy<Value = RequestRecord> {
    let jobs = prop::collection::vec((prop::sample::select(&Outcome::ALL), 0..50_u32, 0..50_u32), 1..4);
    let who = (0..3_u8, 0..3_u8, prop::option::of(0..2_u8), prop::option::of(0..2_u8));
    (jobs, who, 0..40_u64).prop_map(|(jobs, (of, key, person, team), day)| {
        let of = tenant(&format!("ten_{of}"));
        let mut record = request(&of, &format!("key_{key}"), NOON + day * DAY, (0, 0));
        record.person = person.map(|number| PersonId::from_stored(format!("per_{number}")));
        record.team = team.map(|number| TeamId::from_stored(format!("team_{of}_{number}")));
        let jobs = jobs.into_iter().zip(0..).map(|((outcome, prompt, delivered), index)| {
            job(&of, &record.request, index, outcome.after(delivered), (prompt, delivered))
        });
        record.jobs = jobs.collect();
        record
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn whatever_is_written_in_whatever_pieces_sums_are_those_of_rows(
        records in prop::collection::vec(any_request(), 1..40), size in 1..20_usize, again in any::<bool>(),
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let stack = Stack::start().await;
            for _ in 0..=usize::from(again) {
                for batch in records.chunks(size) {
                    stack.registry.write_usage(batch).await.unwrap();
                }
            }
            for number in 0..3 {
                let of = tenant(&format!("ten_{number}"));
                let mut expected = std::collections::BTreeMap::<_, u64>::new();
                for record in records.iter().filter(|record| record.tenant == of) {
                    let (input, output) = record.charge();
                    let month = souk_protocol::limits::PeriodKey::month(record.admitted_at_ms);
                    *expected.entry(month).or_default() += input + output;
                }
                for (period, amount) in expected {
                    let key = souk_protocol::TotalKey { period, ..month_of(Subject::Tenant(of.clone())) };
                    assert_eq!(total(&stack.registry, key).await.0, amount);
                }
            }
            let found = check(&stack, false).await;
            assert!(found.is_clean(), "{found:?}");
            assert_eq!(found.num_rows, records.iter().map(|record| record.jobs.len() as u64).sum::<u64>());
        });
    }
}
