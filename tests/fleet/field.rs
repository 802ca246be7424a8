//! Registries, gateways without a node, and nodes, each a process, around one Redis.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use souk_testkit::redis::Redis;

use crate::cables::Cables;
use crate::fleet::{Fleet, Process, described_base, done, free_address, until};
use crate::stack::BASE;
use crate::streams::{Answer, question};

/// What comes to be within this long, or not at all: several processes share two cores.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// The fleet. Nodes end first, then gateways, then what they need.
pub(crate) struct Field {
    pub(crate) nodes: Vec<Process>,
    pub(crate) fleet: Fleet,
    pub(crate) redis: Redis,
    /// A key that may call models.
    pub(crate) key: String,
    /// What they reach each other by, where that can be cut.
    pub(crate) cables: Option<Cables>,
}

impl Field {
    /// So many gateways and nodes, on SQLite and a folder.
    pub(crate) async fn start(num_gateways: usize, num_nodes: usize) -> Self {
        Self::start_with(&[], Redis::that_forgets(), num_gateways, num_nodes).await
    }

    /// With these settings for registries, and this Redis.
    pub(crate) async fn start_with(
        of_registries: &[(&str, &str)],
        redis: Redis,
        num_gateways: usize,
        num_nodes: usize,
    ) -> Self {
        let fleet = Fleet::registries_alone(of_registries).await;
        let (_, key) = fleet.key().await;
        let mut field = Self { nodes: Vec::new(), fleet, redis, key, cables: None };
        field.add(num_gateways, num_nodes, &[]).await;
        field
    }

    /// Starts so many gateways and nodes with these settings and waits until they are ready.
    pub(crate) async fn add(&mut self, num_gateways: usize, num_nodes: usize, settings: &[(&str, &str)]) {
        for number in 0..num_gateways {
            let gateway = self.gateway(number, settings);
            self.fleet.gateways.push(gateway);
        }
        for number in 0..num_nodes {
            let node = self.node(number, settings);
            self.nodes.push(node);
        }
        if num_nodes > 0 {
            self.until_ready(num_nodes).await;
        }
    }

    fn registries(&self) -> String {
        let urls: Vec<&str> = match &self.cables {
            Some(cables) => cables.registries.iter().map(|cable| cable.url.as_str()).collect(),
            None => self.fleet.registries.iter().map(|registry| registry.url.as_str()).collect(),
        };
        urls.join(",")
    }

    fn redis_url(&self) -> String {
        self.cables.as_ref().map_or_else(|| self.redis.url(), |cables| cables.redis.url.clone())
    }

    /// Starts the gateway with this number.
    pub(crate) fn gateway(&self, number: usize, more: &[(&str, &str)]) -> Process {
        let data = self.fleet.home.path().join(format!("gateway-{number}")).display().to_string();
        let (base, redis, registries) = (described_base().display().to_string(), self.redis_url(), self.registries());
        let (listen, advertise) = match &self.cables {
            Some(cables) => (cables.gateways[number].listen.clone(), cables.gateways[number].cable.url.clone()),
            None => {
                let listen = free_address();
                (listen.clone(), format!("http://{listen}"))
            }
        };
        let mut variables = vec![
            ("SOUK_GATEWAY__REGISTRIES", registries.as_str()),
            ("SOUK_GATEWAY__REGISTRY_KEY", self.fleet.services_keys[number].as_str()),
            ("SOUK_GATEWAY__NODES", "apart"),
            ("SOUK_GATEWAY__ADVERTISE", advertise.as_str()),
            ("SOUK_REDIS__URL", redis.as_str()),
        ];
        variables.extend(more);
        Process::start(&["gateway", "--listen", &listen, "--base", &base, "--data-dir", &data], &variables)
    }

    /// Starts the node with this number: one thread, and a folder of its own.
    pub(crate) fn node(&self, number: usize, more: &[(&str, &str)]) -> Process {
        let id = format!("node-{number}");
        let key = self.fleet.souk(&["services", "create", &id, "--kind", "node"]);
        let data = self.fleet.home.path().join(&id).display().to_string();
        let (registries, redis) = (self.registries(), self.redis_url());
        let mut variables = vec![
            ("SOUK_NODE__REGISTRIES", registries.as_str()),
            ("SOUK_NODE__REGISTRY_KEY", key.trim()),
            ("SOUK_REDIS__URL", redis.as_str()),
            // Little of everything: several share the machine.
            ("SOUK_ENGINE__THREADS", "1"),
        ];
        variables.extend(more);
        let listen = free_address();
        Process::start(&["node", "--listen", &listen, "--id", &id, "--model", BASE, "--data-dir", &data], &variables)
    }

    /// Waits until each gateway counts so many nodes.
    pub(crate) async fn until_ready(&self, num_nodes: usize) {
        for gateway in &self.fleet.gateways {
            let counts = async || {
                let (status, told) = self.fleet.ready(gateway).await;
                status == 200 && told["bases"][0]["nodes"] == num_nodes
            };
            let logs = || self.nodes.iter().map(Process::log).collect::<String>();
            let began = std::time::Instant::now();
            while !counts().await {
                let told = self.fleet.ready(gateway).await;
                assert!(began.elapsed() < LIMIT, "{told:?}\n{}\n{}", gateway.log(), logs());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// The value of a figure of a process, or the sum over its labels.
    pub(crate) async fn figure(&self, process: &Process, name: &str) -> f64 {
        let answer = self.fleet.http.get(format!("{}/metrics", process.url)).send().await;
        let Ok(answer) = answer else { return 0.0 };
        let text = answer.text().await.unwrap_or_default();
        let lines =
            text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until this gateway has told the queue all that it has delivered by now.
    pub(crate) async fn until_told(&self, gateway: &Process) {
        let name = "souk_gateway_signs_of_life_total";
        let before = self.figure(gateway, name).await;
        // The next may have been under way.
        let told = async || self.figure(gateway, name).await >= before + 2.0;
        until("the queue was told what is delivered", LIMIT, told).await;
    }

    /// Waits until nothing waits or runs, by what this gateway and all nodes say.
    pub(crate) async fn until_idle(&self, gateway: &Process) {
        let idle = async || {
            let mut busy = self.figure(gateway, "souk_queue_queued_jobs").await;
            busy += self.figure(gateway, "souk_queue_running_jobs").await;
            for node in &self.nodes {
                busy += self.figure(node, "souk_engine_running_sequences").await;
            }
            busy == 0.0
        };
        let after = until("nothing waits or runs", LIMIT, idle).await;
        println!("nothing waited or ran any more after {after:?}");
    }

    /// Has the operator's tenant use no more than so many tokens a day, and waits until all gateways know.
    pub(crate) async fn limit(&self, tokens_per_day: u32) {
        let request = self.fleet.at_registry(0, Method::PATCH, "tenants/admin/limits");
        done(request.json(&json!({ "limits": { "tokens_per_day": { "value": tokens_per_day } } }))).await;
        for gateway in &self.fleet.gateways {
            let mut too_much = question(BASE, 1500);
            // Where it is let in it ends soon.
            (too_much["n"], too_much["stop"]) = (json!(4), json!([" "]));
            let known = async || {
                let (_, told, _) = self.fleet.complete(gateway, &self.key, &too_much).await;
                told["error"]["code"] == "request_exceeds_limit"
            };
            until("the limit is known", LIMIT, known).await;
        }
    }

    /// The node that runs something.
    pub(crate) async fn busy_node(&self) -> usize {
        let mut found = None;
        let looks = async || {
            for (number, node) in self.nodes.iter().enumerate() {
                if self.figure(node, "souk_engine_running_sequences").await > 0.0 {
                    found = Some(number);
                }
            }
            found.is_some()
        };
        until("a node runs something", LIMIT, looks).await;
        found.unwrap()
    }

    /// Begins an answer of the gateway with this number.
    pub(crate) async fn answer(&self, gateway: usize, body: &Value) -> Answer {
        Answer::begin(&self.fleet, &self.fleet.gateways[gateway], &self.key, body).await
    }

    /// Asks the gateway with this number: the status, the body, and whether it says when to come back.
    pub(crate) async fn ask(&self, gateway: usize, body: &Value) -> (u16, Value, bool) {
        self.fleet.complete(&self.fleet.gateways[gateway], &self.key, body).await
    }

    /// What is answered undisturbed: the text.
    pub(crate) async fn undisturbed(&self, body: &Value) -> String {
        self.answer(0, body).await.finish().await.0
    }

    /// What all processes but registries have logged.
    pub(crate) fn logs(&self) -> String {
        self.fleet.gateways.iter().chain(&self.nodes).map(Process::log).collect()
    }

    /// Reads an answer to its end: it is this text, and charged once, as its client was told.
    pub(crate) async fn ends_as(&self, answer: Answer, text: &str) {
        let request = answer.request.clone();
        let (went_on, usage) = answer.finish().await;
        assert_eq!(went_on, text, "{}", self.logs());
        self.is_charged_once(&request, &usage).await;
    }

    /// A request's only row has the tokens that its client was told.
    pub(crate) async fn is_charged_once(&self, request: &str, usage: &Value) {
        let charged = self.charged(request).await;
        let jobs = charged["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), 1, "{charged}");
        let told = (&jobs[0]["charged_input_tokens"], &jobs[0]["charged_output_tokens"]);
        assert_eq!(told, (&usage["prompt_tokens"], &usage["completion_tokens"]), "{charged}");
    }

    /// What a request was charged, once its rows are written.
    pub(crate) async fn charged(&self, request: &str) -> Value {
        let path = format!("usage/{request}");
        let written = async || {
            self.fleet.at_registry(0, Method::GET, &path).send().await.is_ok_and(|answer| answer.status() == 200)
        };
        until("its rows are written", LIMIT, written).await;
        done(self.fleet.at_registry(0, Method::GET, &path)).await
    }
}
