//! Versions that are published in a day: counted as they become visible, at every level of who publishes.

use reqwest::StatusCode;
use serde_json::{Value, json};
use souk_testkit_s3::S3Server;

use crate::support::{AdapterFiles, Stack, User, begin_upload, body, completion, in_haste, problem, s3_at, send_parts};
use crate::teams::{manager, team};

async fn limit(stack: &Stack, limit: Value) {
    let limits = json!({ "limits": { "versions_per_day": limit } });
    assert_eq!(stack.admin.patch("/tenants/acme/limits", limits).await.status(), StatusCode::OK);
}

/// A tenant with an adapter, and who publishes it.
async fn acme(stack: &Stack) -> User {
    let acme = stack.tenant("acme").await;
    acme.make_adapter("sst2", "private").await;
    acme
}

async fn publish(user: &User, version: &str, seed: u8) -> reqwest::Response {
    user.upload("acme/sst2", version, &AdapterFiles::tiny(seed)).await
}

async fn refused(user: &User, version: &str, seed: u8) -> Value {
    let answer = publish(user, version, seed).await;
    let retry_after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&retry_after), "until the day is over: {retry_after}");
    problem(answer, StatusCode::TOO_MANY_REQUESTS, "limit_reached").await
}

/// What is counted at a level.
async fn counted(stack: &Stack, level: &str) -> i64 {
    let sum = "SELECT CAST(COALESCE(SUM(amount), 0) AS BIGINT) AS n FROM usage_totals";
    stack.number(&format!("{sum} WHERE unit = 'versions' AND level = '{level}'")).await
}

#[tokio::test]
async fn one_more_than_a_day_may_have_is_refused_with_the_level_and_what_is_rejected_or_deleted_changes_no_count() {
    let stack = Stack::start().await;
    let acme = acme(&stack).await;
    limit(&stack, json!({ "value": 2 })).await;
    let mut wrong = AdapterFiles::tiny(9);
    wrong.config["r"] = json!(7);
    let rejected = acme.upload("acme/sst2", "1.0.0", &wrong).await;
    problem(rejected, StatusCode::UNPROCESSABLE_ENTITY, "adapter_rejected").await;
    assert_eq!(counted(&stack, "tenant").await, 0, "what is rejected counts nothing");
    for (version, seed) in [("1.0.0", 1), ("2.0.0", 2)] {
        assert_eq!(publish(&acme, version, seed).await.status(), StatusCode::CREATED);
    }
    let told = refused(&acme, "3.0.0", 3).await;
    assert_eq!((&told["violated-policies"], &told["level"]), (&json!(["versions_per_day"]), &json!("tenant")));
    let detail = told["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("`versions_per_day` of this tenant is 2, and 2 are used; there is more from "),
        "{detail}"
    );
    assert_eq!(acme.delete("/adapters/acme/sst2/versions/1.0.0").await.status(), StatusCode::NO_CONTENT);
    refused(&acme, "3.0.0", 3).await;
    assert_eq!(stack.number("SELECT count(*) AS n FROM uploads").await, 0, "its number is free");
    // The key has its own count, and a larger limit lets go on at once.
    assert_eq!((counted(&stack, "tenant").await, counted(&stack, "key").await), (2, 2));
    limit(&stack, json!({ "value": 3 })).await;
    assert_eq!(publish(&acme, "3.0.0", 3).await.status(), StatusCode::CREATED);
    let shown = body(stack.admin.get("/limits?tenant=acme").await, StatusCode::OK).await;
    assert_eq!(shown["data"][0]["limits"]["versions_per_day"]["used"], 3);
}

#[tokio::test]
async fn every_level_counts_and_the_broadest_that_has_no_more_is_told() {
    let stack = Stack::start().await;
    acme(&stack).await;
    let managing = manager(&stack, "acme").await;
    let search = team(&managing, "search").await;
    let mut keys = Vec::new();
    for team in [Some(&search), Some(&search), None] {
        let request =
            json!({ "name": "k", "scopes": ["adapters:write"], "tenant": "acme", "kind": "service", "team": team });
        let made = body(stack.admin.post("/keys", request).await, StatusCode::CREATED).await;
        keys.push((made["id"].as_str().unwrap().to_owned(), stack.user(made["secret"].as_str().unwrap())));
    }
    limit(&stack, json!({ "value": 4 })).await;
    for (path, value) in [(format!("team/{search}"), 2), (format!("key/{}", keys[0].0), 1)] {
        let limits = json!({ "limits": { "versions_per_day": { "value": value } } });
        assert_eq!(managing.patch(&format!("/limits/{path}"), limits).await.status(), StatusCode::OK);
    }
    let level = async |key: usize, seed: u8| refused(&keys[key].1, &format!("{seed}.0.0"), seed).await["level"].clone();
    let publishes = async |key: usize, seed: u8| {
        assert_eq!(publish(&keys[key].1, &format!("{seed}.0.0"), seed).await.status(), StatusCode::CREATED);
    };
    publishes(0, 1).await;
    assert_eq!(level(0, 2).await, "key");
    publishes(1, 2).await;
    assert_eq!((level(0, 3).await, level(1, 3).await), (json!("team"), json!("team")));
    publishes(2, 3).await;
    publishes(2, 4).await;
    assert_eq!((level(0, 5).await, level(2, 5).await), (json!("tenant"), json!("tenant")));
    assert_eq!(
        (counted(&stack, "tenant").await, counted(&stack, "team").await, counted(&stack, "key").await),
        (4, 2, 4)
    );
}

#[tokio::test]
async fn a_limit_in_shadow_mode_lets_all_in_and_tells_and_thresholds_are_told_once() {
    let stack =
        Stack::start_with(|config| config.settings.webhooks.look_every = std::time::Duration::from_secs(3600)).await;
    let acme = acme(&stack).await;
    limit(&stack, json!({ "value": 2, "soft": 2, "mode": "shadow" })).await;
    for seed in 1..=4 {
        assert_eq!(publish(&acme, &format!("{seed}.0.0"), seed).await.status(), StatusCode::CREATED);
    }
    let told = async |like: &str| stack.number(&format!("SELECT count(*) AS n FROM outbox WHERE {like}")).await;
    assert_eq!(told("kind = 'version.ready' AND payload LIKE '%limits_shadowed%tenant.versions_per_day%'").await, 2);
    // 50 % with the first, 80 and 100 and where it was asked for with the second.
    assert_eq!(told("kind = 'limit.reached' AND payload LIKE '%versions_per_day%'").await, 4);
    assert_eq!(counted(&stack, "tenant").await, 4);
}

#[tokio::test]
async fn of_many_that_race_as_many_are_published_as_there_is_room_for_whichever_registry_they_ask() {
    const LIMIT: usize = 3;
    let first = Stack::start_with(in_haste).await;
    let second = Stack::start_in(first.folder.clone(), in_haste).await;
    let acme = acme(&first).await;
    limit(&first, json!({ "value": LIMIT })).await;
    let at_second = second.user(&acme.key);
    let uploads = (1..=8_u8).map(|seed| {
        let user = if seed % 2 == 0 { acme.clone() } else { at_second.clone() };
        async move {
            loop {
                let status = publish(&user, &format!("{seed}.0.0"), seed).await.status();
                // The database may be held by the others for longer than a request waits.
                if status != StatusCode::SERVICE_UNAVAILABLE {
                    return status;
                }
            }
        }
    });
    let ended = futures::future::join_all(uploads).await;
    let num_created = ended.iter().filter(|status| **status == StatusCode::CREATED).count();
    let num_refused = ended.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
    assert_eq!((num_created, num_refused), (LIMIT, 8 - LIMIT), "{ended:?}");
    assert_eq!(first.number("SELECT count(*) AS n FROM versions").await, LIMIT as i64);
    assert_eq!(counted(&first, "tenant").await, LIMIT as i64);
}

#[tokio::test]
async fn an_upload_straight_to_the_bucket_that_finds_no_room_at_its_end_can_be_completed_later() {
    let server = S3Server::start().await;
    let stack = Stack::start_with(|config| config.objects = s3_at(server.endpoint())).await;
    let acme = acme(&stack).await;
    limit(&stack, json!({ "value": 1 })).await;
    let weights = AdapterFiles::tiny(3).weights_bytes();
    let upload = begin_upload(&acme, "acme/sst2", "3.0.0", &weights).await;
    send_parts(&acme, "acme/sst2", &upload, &weights, &[1]).await;
    assert_eq!(publish(&acme, "1.0.0", 1).await.status(), StatusCode::CREATED);
    let complete =
        async || completion(&acme, "acme/sst2", &upload, AdapterFiles::tiny(3).config_bytes()).send().await.unwrap();
    problem(complete().await, StatusCode::TOO_MANY_REQUESTS, "limit_reached").await;
    // Nor does another begin.
    let begin = acme.post("/adapters/acme/sst2/uploads", crate::support::announcement("4.0.0", b"weights")).await;
    problem(begin, StatusCode::TOO_MANY_REQUESTS, "limit_reached").await;
    limit(&stack, json!({ "value": 2 })).await;
    body(complete().await, StatusCode::CREATED).await;
    assert_eq!(counted(&stack, "tenant").await, 2);
}
