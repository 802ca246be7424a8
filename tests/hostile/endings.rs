//! Ends that somebody would rather not have: a revocation, a drain, a second signal.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::field::{Field, IN_FLIGHT};
use crate::form::scale;
use crate::harm::Harm;
use crate::raw::{connect, head, read_all, request};
use crate::stack::BASE;

fn long() -> Value {
    json!({ "model": BASE, "prompt": "One", "max_tokens": 4000, "stream": true, "ignore_eos": true })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_revoked_key_end_and_give_their_places_back() {
    let field = Field::start(&[]);
    let (innocent, hostile) = (field.tenant("innocent").await, field.tenant("hostile").await);
    let alone = field.asks(&innocent, Field::num_asked()).await;
    let num_acts = scale(24, 64);
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..num_acts {
        let mut stream = connect(&field, number).await;
        stream.write_all(&request(&hostile, "/v1/completions", &long())).await.expect("the server reads");
        streams.spawn(async move {
            let mut seen = String::new();
            let mut bytes = [0; 4096];
            while !seen.contains("event: error") && !seen.contains("[DONE]") {
                match tokio::io::AsyncReadExt::read(&mut stream, &mut bytes).await {
                    Ok(len) if len > 0 => seen += &String::from_utf8_lossy(&bytes[..len]),
                    _ => break,
                }
                // The error may come in two pieces.
                let keep = seen.len().saturating_sub(2000);
                seen = seen.chars().skip(keep).collect();
            }
            seen
        });
    }
    field.rises_to(IN_FLIGHT, num_acts as f64, Duration::from_secs(20)).await;
    let beside = field.asks(&innocent, Field::num_asked()).await;
    Harm { act: "streams of a key that is then revoked", num_acts, alone: &alone, beside: &beside }.told(&field.stack);
    let keys: Value = hostile.get("/registry/v1/keys").await.json().await.expect("JSON");
    let id = keys["data"][0]["id"].as_str().expect("a key");
    let asked = Instant::now();
    let revoked = field.stack.http().delete(format!("{}/registry/v1/keys/{id}", field.stack.url)).send().await;
    assert!(revoked.expect("an answer").status().is_success());
    while let Some(seen) = streams.join_next().await {
        let seen = seen.expect("no panic");
        assert!(seen.contains("key_revoked") && !seen.contains("[DONE]"), "{seen}");
    }
    println!("{num_acts} streams ended {:?} after their key was revoked", asked.elapsed());
    field.falls_to(IN_FLIGHT, 0.0, Duration::from_secs(1)).await;
    field.falls_to("souk_engine_running_sequences", 0.0, Duration::from_secs(1)).await;
    let after = field.asks(&innocent, 2).await;
    assert!(after.refusals.is_empty(), "{:?}", after.refusals);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_beside_clients_that_are_stuck_ends_within_its_limit_and_a_second_signal_at_once() {
    for second in [false, true] {
        let limit_s = if second { "3600" } else { "4" };
        let mut field = Field::start(&[("SOUK_SERVER__DRAIN_TIMEOUT_S", limit_s)]);
        let hostile = field.tenant("hostile").await;
        let mut stuck = Vec::new();
        for number in 0..scale(10, 200) {
            // In turn: nothing, half a head, half a body, an answer that is not read.
            let begin = match number % 4 {
                0 => Vec::new(),
                1 => b"GET / HTTP/1.1\r\nhos".to_vec(),
                2 => (head(&hostile, "/v1/completions", 100) + "{").into_bytes(),
                _ => request(&hostile, "/v1/completions", &long()),
            };
            let mut stream = connect(&field, number).await;
            stream.write_all(&begin).await.expect("the server reads");
            stuck.push(stream);
        }
        field.rises_to(IN_FLIGHT, 1.0, Duration::from_secs(20)).await;
        let asked = Instant::now();
        field.stack.terminate();
        if second {
            let ready = format!("{}/ready", field.stack.url);
            while field.stack.http().get(&ready).send().await.is_ok_and(|answer| answer.status() == 200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            field.stack.terminate();
        }
        let in_good_order = field.stack.wait(Duration::from_secs(30));
        println!("a second signal: {second}; ended after {:?}", asked.elapsed());
        assert_eq!(in_good_order, !second, "{}", field.stack.log());
        let answer = read_all(stuck.last_mut().expect("some are stuck")).await;
        assert!(!answer.contains("[DONE]") || answer.contains("event: error"), "it was cut off: {answer:.300}");
    }
}
