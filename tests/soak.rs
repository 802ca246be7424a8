//! Minutes of everything at once: many adapters through little memory, random lengths, cancels, broken adapters, bad
//! requests, new versions and take-downs. In the end nothing is held, the same question still has the same answer, and
//! memory is where it was.
//!
//! `SOUK_SOAK_S` sets the seconds; `make soak` runs half an hour. Without it the test is short.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "its length is set and its figures shown by hand")]

mod stack;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};
use souk_protocol::peft::Module;
use souk_testkit::Random;
use souk_testkit::base::SMOLLM2;
use souk_testkit::peft::RandomAdapter;
use stack::{BASE, Stack};

const NUM_ADAPTERS: u64 = 24;
const NUM_USERS: u64 = 12;
const SHORTEST: Duration = Duration::from_secs(20);

/// Room for six adapters of rank 8 on the device and a few more in memory, and for about 2,900 tokens of K and V.
const SETTINGS: [(&str, &str); 5] = [
    ("SOUK_ADAPTERS__DEVICE_MB", "6"),
    ("SOUK_ADAPTERS__HOST_MB", "12"),
    ("SOUK_ADAPTERS__MAX_WAIT_MS", "60000"),
    ("SOUK_ENGINE__KV_CACHE_MB", "64"),
    ("SOUK_LOG__FILTER", "error"),
];

/// How often each thing was done.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicUsize,
    cancelled: AtomicUsize,
    refused: AtomicUsize,
    compared: AtomicUsize,
    taken_down: AtomicUsize,
}

struct Soak {
    stack: Stack,
    client: reqwest::Client,
    models: Vec<String>,
    /// What is asked again and again, with the first answer.
    known: Vec<(Value, Value)>,
    tally: Tally,
    end: Instant,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_and_answers_stay_the_same() {
    let length = std::env::var("SOUK_SOAK_S").ok().map_or(SHORTEST, |text| Duration::from_secs(text.parse().unwrap()));
    let stack = Stack::start_with(&SETTINGS);
    let models = publish(&stack);
    let known = first_answers(&stack, &models).await;
    let client = stack.http();
    let end = Instant::now() + length;
    let soak = Arc::new(Soak { stack, client, models, known, tally: Tally::default(), end });

    let users: Vec<_> = (0..NUM_USERS).map(|seed| tokio::spawn(Arc::clone(&soak).user(seed))).collect();
    let publisher = tokio::spawn(Arc::clone(&soak).publisher());
    let memory = watch_memory(&soak).await;
    for task in users {
        task.await.unwrap();
    }
    publisher.await.unwrap();

    soak.wait_until_nothing_is_held().await;
    for (request, expected) in &soak.known {
        assert_eq!(soak.answer(request).await, *expected, "the same question has the same answer at the end");
    }
    let Tally { answered, cancelled, refused, compared, taken_down } = &soak.tally;
    for (what, count) in [("answers", answered), ("cancels", cancelled), ("refusals", refused), ("known", compared)] {
        assert!(count.load(Ordering::Relaxed) > 0, "no {what}: {:?}", soak.tally);
    }
    assert!(taken_down.load(Ordering::Relaxed) > 0, "no take-downs: {:?}", soak.tally);
    assert!(soak.stack.metric("souk_adapter_evictions_total").await > 0.0, "the adapters fit: nothing was evicted");
    assert_flat(&memory, &soak.tally);
}

/// Publishes adapters of several ranks, the trained examples, and one whose answers overflow.
fn publish(stack: &Stack) -> Vec<String> {
    stack.push_examples();
    let mut models: Vec<String> = ["sst2", "sarcasm", "address-json"].map(|name| format!("admin/{name}")).into();
    for number in 0..NUM_ADAPTERS {
        push_random(stack, &format!("admin/random{number}@1.0.0"), number, [2, 4, 8, 16][number as usize % 4]);
        models.push(format!("admin/random{number}"));
    }
    models.push(BASE.to_owned());
    models
}

fn push_random(stack: &Stack, reference: &str, seed: u64, rank: usize) {
    let (shape, base, modules) = (&SMOLLM2, "HuggingFaceTB/SmolLM2-135M-Instruct", &[Module::Q, Module::V]);
    let folder = tempfile::tempdir().unwrap();
    RandomAdapter { shape, base, modules, rank, is_dora: false, size: 0.03 }.files(seed).write(folder.path()).unwrap();
    stack.push(folder.path(), reference);
}

async fn first_answers(stack: &Stack, models: &[String]) -> Vec<(Value, Value)> {
    let mut known = Vec::new();
    for (model, temperature) in [(0, 0.0), (2, 0.9), (5, 0.0), (9, 0.7), (models.len() - 1, 0.0)] {
        let request = json!({
            "model": models[model], "prompt": "Sentence: a warm and funny film .\nSentiment:", "max_tokens": 20,
            "temperature": temperature, "seed": 7, "logprobs": 1, "ignore_eos": true,
        });
        let (status, answer) = stack.post("/v1/completions", &request).await;
        assert_eq!(status, 200, "{answer}");
        known.push((request, answer["choices"].clone()));
    }
    known
}

impl Soak {
    async fn user(self: Arc<Self>, seed: u64) {
        let mut random = Random::new(seed);
        while Instant::now() < self.end {
            match random.below(10) {
                0..=3 => self.ask(&mut random).await,
                4..=6 => self.ask_and_leave(&mut random).await,
                7 => self.ask_wrongly(&mut random).await,
                _ => self.ask_what_is_known(&mut random).await,
            }
        }
    }

    fn request(&self, random: &mut Random) -> Value {
        let mut request = json!({
            "model": random.zipf(&self.models),
            "prompt": "All the world is a stage, and all the men and women merely players. ".repeat(1 + random.below(20) as usize),
            "max_tokens": 1 + random.below(60),
            "temperature": random.below(3) as f64 / 2.0,
            "seed": random.below(100),
            "ignore_eos": true,
        });
        if random.below(4) == 0 {
            let weight = |random: &mut Random| random.below(5) as f64 / 4.0;
            let one =
                |random: &mut Random| json!({ "id": self.models[random.below(8) as usize], "weight": weight(random) });
            let (first, second) = (one(random), one(random));
            request["model"] = json!(BASE);
            request["adapters"] = if first["id"] == second["id"] { json!([first]) } else { json!([first, second]) };
        }
        request
    }

    async fn ask(&self, random: &mut Random) {
        let request = self.request(random);
        let (status, answer) = self.post(&request).await;
        assert_eq!(status, 200, "{request} {answer}");
        assert_eq!(answer["usage"]["completion_tokens"], request["max_tokens"], "{answer}");
        self.tally.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Hangs up before the answer begins, or in its middle.
    async fn ask_and_leave(&self, random: &mut Random) {
        let mut request = self.request(random);
        request["stream"] = json!(true);
        request["max_tokens"] = json!(400);
        let url = format!("{}/v1/completions", self.stack.url);
        let sent = self.client.post(url).json(&request).send();
        let patience = Duration::from_millis(random.below(300));
        if let Ok(response) = tokio::time::timeout(patience, sent).await {
            let response = response.unwrap();
            assert_eq!(response.status().as_u16(), 200);
            let mut stream = response.bytes_stream();
            for _ in 0..random.below(30) {
                if tokio::time::timeout(Duration::from_secs(60), stream.next()).await.unwrap().is_none() {
                    break;
                }
            }
        }
        self.tally.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    async fn ask_wrongly(&self, random: &mut Random) {
        let mut request = self.request(random);
        let expected = match random.below(3) {
            0 => {
                request["prompt"] = json!("word ".repeat(9000));
                400
            }
            1 => {
                request["model"] = json!("admin/absent");
                404
            }
            _ => {
                request["temperature"] = json!(-1);
                400
            }
        };
        let (status, answer) = self.post(&request).await;
        assert_eq!(status, expected, "{answer}");
        self.tally.refused.fetch_add(1, Ordering::Relaxed);
    }

    async fn ask_what_is_known(&self, random: &mut Random) {
        let (request, expected) = &self.known[random.below(self.known.len() as u64) as usize];
        assert_eq!(self.answer(request).await, *expected, "{request}");
        self.tally.compared.fetch_add(1, Ordering::Relaxed);
    }

    async fn answer(&self, request: &Value) -> Value {
        let (status, answer) = self.post(request).await;
        assert_eq!(status, 200, "{answer}");
        answer["choices"].clone()
    }

    async fn post(&self, request: &Value) -> (u16, Value) {
        let response =
            self.client.post(format!("{}/v1/completions", self.stack.url)).json(request).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Publishes new versions of one adapter, uses each, and takes it down.
    async fn publisher(self: Arc<Self>) {
        for number in 1.. {
            if Instant::now() >= self.end {
                return;
            }
            let name = format!("admin/fleeting@1.0.{number}");
            let (soak, reference) = (Arc::clone(&self), name.clone());
            tokio::task::spawn_blocking(move || push_random(&soak.stack, &reference, 1000 + number, 4)).await.unwrap();
            let (status, answer) = self.post(&json!({ "model": name, "prompt": "Once", "max_tokens": 3 })).await;
            assert_eq!(status, 200, "{answer}");
            let url = format!("{}/registry/v1/adapters/admin/fleeting/versions/1.0.{number}/take-down", self.stack.url);
            let response = self.client.post(url).json(&json!({ "reason": "soak" })).send().await.unwrap();
            assert!(response.status().is_success(), "{}", response.text().await.unwrap());
            let (status, answer) = self.post(&json!({ "model": name, "prompt": "Once", "max_tokens": 3 })).await;
            assert_eq!(status, 410, "{answer}");
            self.tally.taken_down.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn wait_until_nothing_is_held(&self) {
        let gauges = [
            "souk_engine_running_sequences",
            "souk_engine_waiting_sequences",
            "souk_gateway_in_flight_requests",
            "souk_queue_queued_jobs",
            "souk_queue_running_jobs",
        ];
        let limit = Instant::now() + Duration::from_secs(30);
        for gauge in gauges {
            while self.stack.metric(gauge).await > 0.0 {
                assert!(Instant::now() < limit, "{gauge} is {}", self.stack.metric(gauge).await);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Resident memory of the server in KiB, read a hundred times until the end.
async fn watch_memory(soak: &Soak) -> Vec<u64> {
    let pause = soak.end.saturating_duration_since(Instant::now()) / 100;
    let mut readings = Vec::new();
    while Instant::now() < soak.end {
        readings.push(soak.stack.resident_kib());
        tokio::time::sleep(pause).await;
    }
    readings
}

/// Compares the third quarter, when every pool has long been full, with the last.
fn assert_flat(readings: &[u64], tally: &Tally) {
    let quarter = readings.len() / 4;
    let mean = |range: std::ops::Range<usize>| readings[range.clone()].iter().sum::<u64>() / range.len() as u64;
    let (before, after) = (mean(2 * quarter..3 * quarter), mean(3 * quarter..readings.len()));
    println!("memory {before} KiB in the third quarter, {after} KiB in the last; {tally:?}");
    assert!(after < before + before / 20 + 4096, "memory grows: {before} KiB, then {after} KiB; {readings:?}");
}
