//! The server, its tenants, and acts that go on until they are ended.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use souk_protocol::peft::Module;
use souk_testkit::base::SMOLLM2;
use souk_testkit::peft::{Files, RandomAdapter};
use tokio::task::JoinSet;

use crate::form::{is_full, scale};
use crate::harm::Seen;
use crate::stack::{BASE, Stack};

/// A running server.
pub(crate) struct Field {
    pub(crate) stack: Stack,
}

/// A tenant with a key of all scopes but `admin`.
#[derive(Clone)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) http: Client,
    pub(crate) url: String,
}

/// What the listener waits, in seconds: the times of the page in the full form.
pub(crate) struct Waits {
    pub(crate) headers_s: u64,
    pub(crate) body_s: u64,
    pub(crate) stall_s: u64,
    pub(crate) idle_s: u64,
}

impl Waits {
    pub(crate) fn of_this_form() -> Self {
        if is_full() {
            Self { headers_s: 15, body_s: 20, stall_s: 30, idle_s: 75 }
        } else {
            Self { headers_s: 2, body_s: 2, stall_s: 2, idle_s: 3 }
        }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let ms = |seconds: u64| (seconds * 1000).to_string();
        vec![
            ("SOUK_SERVER__HANDSHAKE_TIMEOUT_MS", ms(self.headers_s.min(10))),
            ("SOUK_SERVER__HEADERS_TIMEOUT_MS", ms(self.headers_s)),
            ("SOUK_SERVER__BODY_RATE_WINDOW_MS", ms(self.body_s)),
            ("SOUK_SERVER__STALL_TIMEOUT_MS", ms(self.stall_s)),
            ("SOUK_SERVER__IDLE_TIMEOUT_MS", ms(self.idle_s)),
        ]
    }
}

impl Field {
    /// With these settings beside the waits of this form.
    pub(crate) fn start(more: &[(&str, &str)]) -> Self {
        souk_http::serve::raise_limit();
        let waits = Waits::of_this_form().settings();
        let waits = waits.iter().map(|(name, value)| (*name, value.as_str()));
        let settings: Vec<(&str, &str)> = waits.chain(more.iter().copied()).collect();
        Self { stack: Stack::start_with(&settings) }
    }

    pub(crate) async fn tenant(&self, name: &str) -> Tenant {
        let scopes = ["inference", "adapters:read", "adapters:write", "keys:manage"];
        let (status, made) = self.stack.post("/registry/v1/tenants", &json!({ "name": name })).await;
        assert_eq!(status, 201, "{made}");
        let key = json!({ "name": name, "scopes": scopes, "tenant": name });
        let (status, made) = self.stack.post("/registry/v1/keys", &key).await;
        assert_eq!(status, 201, "{made}");
        let key = made["secret"].as_str().expect("the key").to_owned();
        Tenant { name: name.to_owned(), key, http: Client::new(), url: self.stack.url.clone() }
    }

    pub(crate) async fn tenants<const N: usize>(&self, name: &str) -> [Tenant; N] {
        let mut tenants = Vec::new();
        for number in 0..N {
            tenants.push(self.tenant(&format!("{name}{number}")).await);
        }
        tenants.try_into().unwrap_or_else(|_| unreachable!("as many as were made"))
    }

    /// Small requests of `innocent`, one after the other: a prompt of six tokens and two more.
    pub(crate) async fn asks(&self, innocent: &Tenant, num: usize) -> Seen {
        self.asks_for(innocent, num, BASE).await
    }

    pub(crate) async fn asks_for(&self, innocent: &Tenant, num: usize, model: &str) -> Seen {
        let mut seen = Seen::default();
        for number in 0..num {
            let body = json!({
                "model": model, "prompt": format!("{number} is a number that"), "max_tokens": 2, "temperature": 0,
                "ignore_eos": true, "stream": true,
            });
            let before = self.stack.metric(STEPS).await;
            let asked = Instant::now();
            let mut answer = innocent.post("/v1/completions", &body).await;
            if answer.status() != 200 {
                seen.refusals.push(format!("{} {}", answer.status(), answer.text().await.unwrap_or_default()));
                continue;
            }
            let mut text = String::new();
            while !text.contains("\"text\"") {
                match answer.chunk().await {
                    Ok(Some(bytes)) => text += &String::from_utf8_lossy(&bytes),
                    end => {
                        seen.refusals.push(format!("{end:?} after {text}"));
                        break;
                    }
                }
            }
            if text.contains("\"text\"") {
                seen.waits.push(asked.elapsed());
                seen.steps.push((self.stack.metric(STEPS).await - before) as u64);
                let rest = answer.text().await.unwrap_or_default();
                assert!((text + &rest).contains("[DONE]"), "the answer is whole: {rest}");
            }
        }
        seen
    }

    /// How many requests the innocent makes for a figure.
    pub(crate) fn num_asked() -> usize {
        scale(3, 20)
    }

    /// Waits for what the page says comes within `limit`, and as long again for a busy machine.
    pub(crate) async fn until(&self, what: &str, limit: Duration, mut is_so: impl AsyncFnMut(&Stack) -> bool) {
        let began = Instant::now();
        while !is_so(&self.stack).await {
            assert!(began.elapsed() < 2 * limit + SLACK, "after {:?}: {what}\n{}", began.elapsed(), self.stack.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a figure is at most so much.
    pub(crate) async fn falls_to(&self, figure: &str, most: f64, limit: Duration) {
        let what = format!("{figure} falls to {most}");
        self.until(&what, limit, async |stack| stack.metric(figure).await <= most).await;
    }

    /// Waits until a figure is at least so much.
    pub(crate) async fn rises_to(&self, figure: &str, least: f64, limit: Duration) {
        let what = format!("{figure} rises to {least}");
        self.until(&what, limit, async |stack| stack.metric(figure).await >= least).await;
    }
}

/// What a busy machine may add to a stated time.
const SLACK: Duration = Duration::from_secs(15);
/// Steps that the engine has made.
const STEPS: &str = "souk_engine_step_seconds_count";
/// Requests under way.
pub(crate) const IN_FLIGHT: &str = "souk_gateway_in_flight_requests";
/// Open connections.
pub(crate) const CONNECTIONS: &str = "souk_http_connections";

impl Tenant {
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.key).json(body);
        request.send().await.expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key).send().await.expect("an answer")
    }

    /// Asks for so many tokens after a prompt and reads the whole answer; whatever comes of it.
    pub(crate) async fn generate(&self, model: &str, prompt: &str, max_tokens: usize) {
        let body = json!({ "model": model, "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": true });
        let request = self.http.post(format!("{}/v1/completions", self.url)).bearer_auth(&self.key).json(&body);
        if let Ok(answer) = request.send().await {
            answer.bytes().await.ok();
        }
    }

    /// Makes an adapter and publishes its version 1.0.0.
    pub(crate) async fn publish(&self, short: &str, visibility: &str, files: &Files) -> String {
        let made = self.post("/registry/v1/adapters", &json!({ "name": short, "visibility": visibility })).await;
        let (status, text) = (made.status(), made.text().await.unwrap_or_default());
        assert_eq!(status, 201, "{text}");
        let answer = self.upload(short, form("1.0.0", files)).await;
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        assert_eq!(status, 201, "{text}");
        format!("{}/{short}", self.name)
    }

    pub(crate) async fn upload(&self, short: &str, form: Form) -> Response {
        let url = format!("{}/registry/v1/adapters/{}/{short}/versions", self.url, self.name);
        self.http.post(url).bearer_auth(&self.key).multipart(form).send().await.expect("an answer")
    }
}

pub(crate) fn form(version: &str, files: &Files) -> Form {
    Form::new()
        .text("version", version.to_owned())
        .part("adapter_config.json", Part::bytes(files.config.clone()))
        .part("adapter_model.safetensors", Part::bytes(files.weights.clone()))
}

/// An adapter of the served base: of rank 8 it takes 0.9 MiB of device memory. Those of one rank differ in one number.
pub(crate) fn adapter(rank: usize, seed: u8) -> Files {
    static MADE: Mutex<BTreeMap<usize, Files>> = Mutex::new(BTreeMap::new());
    let make = || {
        let modules = [Module::Q, Module::V];
        let base = "HuggingFaceTB/SmolLM2-135M-Instruct";
        RandomAdapter { shape: &SMOLLM2, base, modules: &modules, rank, is_dora: false, size: 0.008 }.files(1)
    };
    let mut files = MADE.lock().expect("making one does not panic").entry(rank).or_insert_with(make).clone();
    let last = files.weights.last_chunk_mut().expect("there are numbers");
    // A brain float between a hundredth and a twentieth.
    *last = [seed, 0x3c];
    files
}

/// Acts of several at once, which end when this is dropped.
pub(crate) struct Acts {
    workers: JoinSet<()>,
    num_acts: Arc<AtomicUsize>,
}

impl Acts {
    /// Each of so many workers does `act` again and again, with numbers that count up, `most` in all.
    pub(crate) fn begin<F, A>(num_workers: usize, most: usize, act: F) -> Self
    where
        F: Fn(usize) -> A + Clone + Send + 'static,
        A: Future<Output = ()> + Send + 'static,
    {
        let num_acts = Arc::new(AtomicUsize::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..num_workers {
            let (act, num_acts) = (act.clone(), Arc::clone(&num_acts));
            workers.spawn(async move {
                loop {
                    let number = num_acts.fetch_add(1, Ordering::SeqCst);
                    if number >= most {
                        num_acts.fetch_sub(1, Ordering::SeqCst);
                        return;
                    }
                    act(number).await;
                }
            });
        }
        Self { workers, num_acts }
    }

    /// How many were begun.
    pub(crate) fn num(&self) -> usize {
        self.num_acts.load(Ordering::SeqCst)
    }

    /// Waits until all were done.
    pub(crate) async fn end(&mut self) {
        while let Some(worker) = self.workers.join_next().await {
            worker.expect("an act does not panic");
        }
    }
}
