//! Two gateways at one Redis: they race for the last unit, and neither what both let in nor what one leaves is ever more.

#[cfg(has_redis)]
use std::time::Duration;

#[cfg(has_redis)]
use reqwest::Method;
#[cfg(has_redis)]
use serde_json::json;
#[cfg(has_redis)]
use souk_testkit::redis::Redis;

#[cfg(has_redis)]
use crate::calls::{End, ask, question};
#[cfg(has_redis)]
use crate::fleet::{Fleet, done, until};
#[cfg(has_redis)]
use crate::rows::{open, totals};

#[cfg(has_redis)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_gateways_that_race_for_the_last_unit_one_has_it() {
    let redis = Redis::that_forgets();
    let url = redis.url();
    let mut fleet = Fleet::registries_alone(&[]).await;
    for number in [0, 1] {
        let gateway = fleet.gateway(number, &[("SOUK_REDIS__URL", url.as_str())]);
        fleet.gateways.push(gateway);
    }
    fleet.until_ready().await;
    let (_, key) = fleet.key().await;
    let http = {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(reqwest::header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        reqwest::Client::builder().default_headers(headers).build().unwrap()
    };
    // What one request uses, prompt and answer.
    let urls: Vec<String> = fleet.gateways.iter().map(|gateway| gateway.url.clone()).collect();
    let End::Answered(input, output) = ask(&http, &urls[0], &question(3, 1, false), None).await.end else {
        panic!("no answer\n{}", fleet.gateways[0].log())
    };
    let cost = input + output;
    // Room for five in all, and not for six.
    let budget = 5 * cost + cost - 1;
    let limits = json!({ "limits": { "tokens_per_month": { "value": budget } } });
    done(fleet.at_registry(0, Method::PATCH, "tenants/admin/limits").json(&limits)).await;
    // Both have heard, and the store began long enough ago to know all that is held.
    let is_bound = async || {
        let mut bound = 0;
        for url in &urls {
            let seen = ask(&http, url, &question(3000, 1, false), None).await;
            bound += usize::from(matches!(&seen.end, End::Refused(400 | 429, code) if code != "context_length_exceeded"));
        }
        bound == 2
    };
    until("both gateways know the limit", Duration::from_secs(60), is_bound).await;
    let racing = (0..24).map(|number| {
        let (http, url) = (http.clone(), urls[number % 2].clone());
        tokio::spawn(async move { ask(&http, &url, &question(3, 1, number % 3 == 0), None).await.end })
    });
    let mut num_answered = 1;
    for end in futures::future::join_all(racing).await {
        match end.unwrap() {
            End::Answered(..) => num_answered += 1,
            End::Refused(429, code) => assert_eq!(code, "insufficient_quota"),
            other => panic!("{other:?}"),
        }
    }
    assert!((2..=5).contains(&num_answered), "{num_answered}");
    // What was held and not used is free again; in the end all that fits is used and no more.
    for attempt in 0.. {
        let end = ask(&http, &urls[attempt % 2], &question(3, 1, false), None).await.end;
        match end {
            End::Answered(..) => num_answered += 1,
            End::Refused(429, _) if num_answered == 5 => break,
            End::Refused(429, _) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("{other:?}"),
        }
        assert!(attempt < 300 && num_answered <= 5, "{num_answered}");
    }
    let db = open(&fleet.home.path().join("data")).await;
    let written = async || totals(&db, "tenant").await.values().sum::<i64>() == 5 * cost;
    until("all of it is written", Duration::from_secs(30), written).await;
}
