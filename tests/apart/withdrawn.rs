//! Keys that are revoked and versions that are taken down at one registry, and two gateways.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::json;

use crate::fleet::{Fleet, done, until};
use crate::stack::BASE;

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until every gateway answers `status` for each of these; prints how long that took.
async fn until_all(fleet: &Fleet, what: &str, presented: &[&str], model: &str, status: u16) {
    let began = Instant::now();
    let mut times = Vec::new();
    for gateway in &fleet.gateways {
        for one in presented {
            until(what, LIMIT, async || fleet.look(gateway, one, model).await == status).await;
            times.push(began.elapsed());
        }
    }
    println!("{what} by two gateways after {times:?}");
}

/// An answer that runs at a gateway until something ends it; what it ended with.
async fn running(fleet: &Fleet, gateway: usize, key: &str, model: &str) -> tokio::task::JoinHandle<String> {
    let body = json!({ "model": model, "prompt": "Once upon a time", "max_tokens": 4000, "temperature": 0,
        "ignore_eos": true, "stream": true });
    let url = format!("{}/v1/completions", fleet.gateways[gateway].url);
    let answer = fleet.http.post(url).bearer_auth(key).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", fleet.gateways[gateway].log());
    let mut stream = answer.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    tokio::spawn(async move {
        let mut text = String::from_utf8_lossy(&first).into_owned();
        while let Some(Ok(bytes)) = stream.next().await {
            text += &String::from_utf8_lossy(&bytes);
        }
        text
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_registry_revokes_or_takes_down_both_gateways_refuse_within_a_second_and_running_answers_end() {
    let fleet = Fleet::start().await;
    fleet.push("sst2", "admin/sst2@1.0.0");
    let model = "admin/sst2@1.0.0";
    for number in [0, 1] {
        let (id, key) = fleet.key().await;
        let token = fleet.token(&key).await;
        for gateway in &fleet.gateways {
            for presented in [&key, &token] {
                assert_eq!(fleet.look(gateway, presented, BASE).await, 200);
            }
        }
        let mut answers = Vec::new();
        for (gateway, presented) in [(0, &key), (1, &token)] {
            answers.push(running(&fleet, gateway, presented, BASE).await);
        }
        let revoked = Instant::now();
        done(fleet.at_registry(number, Method::DELETE, &format!("keys/{id}"))).await;
        until_all(&fleet, "a key and its token were refused", &[&key, &token], BASE, 401).await;
        for answer in answers {
            let text = answer.await.unwrap();
            assert!(text.contains("\"code\":\"key_revoked\""), "{}", &text[text.len().saturating_sub(400)..]);
        }
        println!("revoked at registry {number}: running answers had ended after {:?}", revoked.elapsed());
    }

    let (_, key) = fleet.key().await;
    for gateway in &fleet.gateways {
        assert_eq!(fleet.look(gateway, &key, model).await, 200);
    }
    let answers = [running(&fleet, 0, &key, model).await, running(&fleet, 1, &key, model).await];
    let path = "adapters/admin/sst2/versions/1.0.0/take-down";
    done(fleet.at_registry(1, Method::POST, path).json(&json!({ "reason": "a test" }))).await;
    until_all(&fleet, "a version that was taken down was refused", &[&key], model, 410).await;
    for answer in answers {
        let text = answer.await.unwrap();
        assert!(text.contains("\"code\":\"model_taken_down\""), "{}", &text[text.len().saturating_sub(400)..]);
    }
    // A gateway that starts later knows it from its beginning on.
    let late = fleet.gateway(0, &[]);
    until("the late one is ready", LIMIT, async || fleet.ready(&late).await.0 == 200).await;
    assert_eq!(fleet.look(&late, &key, model).await, 410, "{}", late.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_services_key_that_is_revoked_shuts_its_gateway_out_and_no_other() {
    let fleet = Fleet::start().await;
    let (_, key) = fleet.key().await;
    let listed: serde_json::Value = serde_json::from_str(&fleet.souk(&["services", "list", "--json"])).unwrap();
    let of_first = fleet.services_keys[0][5..17].to_owned();
    assert!(listed.as_array().unwrap().iter().any(|one| one["id"] == of_first && one["name"] == "gateway-1"));
    fleet.souk(&["services", "revoke", &of_first]);
    let shut_out = async || fleet.look(&fleet.gateways[0], &key, BASE).await == 503;
    let after = until("the first lets nobody in", LIMIT, shut_out).await;
    println!("a gateway whose key was revoked let nobody in after {after:?}");
    assert_eq!(fleet.look(&fleet.gateways[1], &key, BASE).await, 200);
    // It hears nothing more either, and says so when what it knew is too old.
    let not_ready = async || fleet.ready(&fleet.gateways[0]).await.1["status"] == "waiting_for_registries";
    until("it is not ready", LIMIT, not_ready).await;
    let log = fleet.gateways[0].log();
    assert!(log.contains("does not take gateway.registry_key") && log.contains("key_revoked"), "{log}");
}
