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
use crate::rows::{open, requests, totals};

/// Two gateways at a Redis, a client of a tenant, and what one small question costs, prompt and answer.
#[cfg(has_redis)]
struct Field {
    fleet: Fleet,
    urls: Vec<String>,
    http: reqwest::Client,
    cost: i64,
    _redis: Redis,
}

#[cfg(has_redis)]
impl Field {
    async fn start() -> Self {
        let redis = Redis::that_forgets();
        let url = redis.url();
        let mut fleet = Fleet::registries_alone(&[]).await;
        for number in [0, 1] {
            let gateway = fleet.gateway(number, &[("SOUK_REDIS__URL", url.as_str())]);
            fleet.gateways.push(gateway);
        }
        fleet.until_ready().await;
        let (_, key) = fleet.key().await;
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(reqwest::header::AUTHORIZATION, format!("Bearer {key}").parse().unwrap());
        let http = reqwest::Client::builder().default_headers(headers).build().unwrap();
        let urls: Vec<String> = fleet.gateways.iter().map(|gateway| gateway.url.clone()).collect();
        let End::Answered(input, output) = ask(&http, &urls[0], &question(3, 1, false), None).await.end else {
            panic!("no answer\n{}", fleet.gateways[0].log())
        };
        Self { fleet, urls, http, cost: input + output, _redis: redis }
    }

    /// Gives the tenant room for `units` more questions in this month and for no further one; both gateways have heard when this
    /// returns, and nothing was asked meanwhile. Answers how many were asked so far.
    async fn leave_room_for(&self, units: i64) -> i64 {
        // Nothing gets in before the budget binds, at either gateway.
        self.set(json!({ "requests_per_minute": { "value": 0 } })).await;
        self.until_both_say(3, "rate_limit_exceeded").await;
        let db = open(&self.fleet.home.path().join("data")).await;
        let written = async || self.left().await == 0.0;
        until("all is written", Duration::from_secs(60), written).await;
        let seen = totals(&db, "tenant").await.values().sum::<i64>();
        let budget = seen + units * self.cost + self.cost - 1;
        self.set(json!({ "requests_per_minute": null, "tokens_per_month": { "value": budget } })).await;
        self.until_both_say(3000, "request_exceeds_limit").await;
        seen / self.cost
    }

    /// What both gateways hold and have not written.
    async fn left(&self) -> f64 {
        let mut left = 0.0;
        for url in &self.urls {
            let text = self.http.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
            for name in ["souk_gateway_usage_unwritten_requests ", "souk_gateway_limits_holding_requests "] {
                let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is told");
                left += line.parse::<f64>().unwrap();
            }
        }
        left
    }

    async fn set(&self, limits: serde_json::Value) {
        let request = self.fleet.at_registry(0, Method::PATCH, "tenants/admin/limits");
        done(request.json(&json!({ "limits": limits }))).await;
    }

    async fn until_both_say(&self, tokens: u64, code: &str) {
        let says = async || {
            for url in &self.urls {
                let End::Refused(_, said) = ask(&self.http, url, &question(tokens, 1, false), None).await.end else {
                    return false;
                };
                if said != code {
                    return false;
                }
            }
            true
        };
        until(&format!("both gateways say {code}"), Duration::from_secs(60), says).await;
    }

    async fn until_used(&self, tokens: i64) {
        let db = open(&self.fleet.home.path().join("data")).await;
        let written = async || totals(&db, "tenant").await.values().sum::<i64>() == tokens;
        until("all of it is written", Duration::from_secs(30), written).await;
    }
}

#[cfg(has_redis)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_gateways_that_race_for_the_last_unit_one_has_it() {
    let field = Field::start().await;
    let asked = field.leave_room_for(4).await;
    let racing = (0..24).map(|number| {
        let (http, url) = (field.http.clone(), field.urls[number % 2].clone());
        tokio::spawn(async move { ask(&http, &url, &question(3, 1, number % 3 == 0), None).await.end })
    });
    let mut num_answered = 0;
    for end in futures::future::join_all(racing).await {
        match end.unwrap() {
            End::Answered(..) => num_answered += 1,
            End::Refused(429, code) => assert_eq!(code, "insufficient_quota"),
            other => panic!("{other:?}"),
        }
    }
    assert!((1..=4).contains(&num_answered), "{num_answered}");
    // What was held and not used is free again; in the end all that fits is used and no more.
    for attempt in 0.. {
        let end = ask(&field.http, &field.urls[attempt % 2], &question(3, 1, false), None).await.end;
        match end {
            End::Answered(..) => num_answered += 1,
            End::Refused(429, _) if num_answered == 4 => break,
            End::Refused(429, _) => tokio::time::sleep(Duration::from_millis(100)).await,
            other => panic!("{other:?}"),
        }
        assert!(attempt < 300 && num_answered <= 4, "{num_answered}");
    }
    field.until_used((asked + 4) * field.cost).await;
}

#[cfg(has_redis)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_gateway_held_is_the_others_after_a_lease_and_its_rows_come_once_when_it_is_back() {
    use futures::StreamExt as _;

    let mut field = Field::start().await;
    let asked = field.leave_room_for(200).await;
    // Most of what is left, and it takes a while.
    let tokens = u64::try_from(190 * field.cost).unwrap();
    let body = question(tokens, 1, true);
    let answer = field.http.post(format!("{}/v1/completions", field.urls[0])).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut stream = answer.bytes_stream();
    stream.next().await.unwrap().unwrap();
    let of_the_rest = question(tokens, 1, false);
    let end = ask(&field.http, &field.urls[1], &of_the_rest, None).await.end;
    assert_eq!(end, End::Refused(429, "insufficient_quota".to_owned()), "it is held");
    field.fleet.gateways[0].kill();
    while stream.next().await.is_some_and(|part| part.is_ok()) {}
    // Nobody renews it: after a lease the other gateway has it.
    let mut used = 0;
    for attempt in 0.. {
        match ask(&field.http, &field.urls[1], &of_the_rest, None).await.end {
            End::Answered(input, output) => {
                used = input + output;
                break;
            }
            End::Refused(429, _) => tokio::time::sleep(Duration::from_millis(500)).await,
            other => panic!("{other:?}"),
        }
        assert!(attempt < 120, "its lease does not lapse");
    }
    assert!(used > 0);
    // Its journal knows of the one that it had; that is a row, and free.
    field.fleet.gateways[0].restart();
    field.fleet.until_ready().await;
    field.until_used(asked * field.cost + used).await;
    let db = open(&field.fleet.home.path().join("data")).await;
    let is_there = async || requests(&db).await.values().filter(|row| row.is_lost()).count() == 1;
    until("the row of what was under way is there", Duration::from_secs(30), is_there).await;
}
