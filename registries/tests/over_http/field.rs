//! Registries on one database and folder, each with its server and a proxy before it, and gateways' catalogs that know all of
//! them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use souk_gateway::Catalog as _;
use souk_protocol::{AdapterRef, BaseModel, Principal};
use souk_registries::{HttpCatalog, KeySource, Settings, Withdrawn};
use souk_registry::{ApiKey, Registry, RegistryConfig};
use souk_testkit::base::{SMALL, base};
use souk_testkit::peft::{Stored, Tensor, weights_file};
use souk_testkit::proxy::Proxy;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// How long catalogs believe what they knew while no registry answers.
pub(crate) const STALE: Duration = Duration::from_secs(3);

/// What all tests have.
pub(crate) struct Field {
    folder: TempDir,
    pub(crate) registries: Vec<Running>,
    pub(crate) admin_key: String,
    services_key: String,
    http: Client,
}

/// A registry with its server and its proxy.
pub(crate) struct Running {
    pub(crate) registry: Registry,
    pub(crate) url: String,
    pub(crate) proxy: Proxy,
    _server: AbortOnDropHandle<()>,
}

/// A gateway's catalog and what it hears.
pub(crate) struct Apart {
    pub(crate) catalog: Arc<HttpCatalog>,
    pub(crate) withdrawn: mpsc::Receiver<Withdrawn>,
}

fn tiny() -> BaseModel {
    let base = base("tiny-base", SMALL);
    BaseModel { aliases: vec![base.id.clone()], ..base }
}

impl Field {
    pub(crate) async fn with(num_registries: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut registries = Vec::new();
        let mut admin_key = None;
        for _ in 0..num_registries {
            let registry = Registry::open_embedded(RegistryConfig::new(folder.path()), vec![tiny()]).await.unwrap();
            admin_key = admin_key.or(registry.bootstrap().await.unwrap().map(|key| key.expose().to_owned()));
            registries.push(Running::serve(registry, "127.0.0.1:0").await);
        }
        let http = Client::new();
        let mut field = Self { folder, registries, admin_key: admin_key.unwrap(), services_key: String::new(), http };
        let made = field.operator(Method::POST, "services", json!({ "name": "gateway-1" })).await;
        field.services_key = made["secret"].as_str().unwrap().to_owned();
        field
    }

    /// A gateway that knows all registries, by their proxies.
    pub(crate) fn gateway(&self) -> Apart {
        self.gateway_with(KeySource::Text(self.services_key.clone().into()))
    }

    pub(crate) fn gateway_with(&self, key: KeySource) -> Apart {
        let settings = Settings {
            section: "gateway",
            addresses: self.registries.iter().map(|one| one.proxy.url.clone()).collect(),
            root_cert: None,
            client_cert: None,
            key,
            stale: STALE,
            id_of_key: |presented| ApiKey::parse(presented).ok().map(|key| key.id()),
        };
        let (catalog, withdrawn) = HttpCatalog::new(&settings).unwrap();
        Apart { catalog: Arc::new(catalog), withdrawn }
    }

    pub(crate) fn services_key(&self) -> &str {
        &self.services_key
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Asks the registry with this number, past its proxy.
    pub(crate) fn request(&self, number: usize, method: Method, path: &str, key: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/registry/v1/{path}", self.registries[number].url)).bearer_auth(key)
    }

    pub(crate) async fn operator(&self, method: Method, path: &str, body: Value) -> Value {
        done(self.request(0, method, path, &self.admin_key).json(&body)).await
    }

    /// A tenant's key: its id and the secret.
    pub(crate) async fn key(&self, tenant: &str) -> (String, String) {
        let scopes = ["inference", "adapters:read", "adapters:write", "keys:manage"];
        let made =
            self.operator(Method::POST, "keys", json!({ "name": "k", "tenant": tenant, "scopes": scopes })).await;
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        (text("id"), text("secret"))
    }

    /// A new tenant's key.
    pub(crate) async fn tenant(&self, name: &str) -> (String, String) {
        self.operator(Method::POST, "tenants", json!({ "name": name })).await;
        self.key(name).await
    }

    pub(crate) async fn token(&self, key: &str) -> String {
        let exchanged = done(self.request(0, Method::POST, "auth/token", key).json(&json!({}))).await;
        exchanged["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn revoke(&self, number: usize, id: &str) {
        let revoked = self.request(number, Method::DELETE, &format!("keys/{id}"), &self.admin_key).send().await;
        assert_eq!(revoked.unwrap().status(), 204);
    }

    /// Publishes the smallest adapter; `seed` makes its weights differ from others. Answers its digest.
    pub(crate) async fn publish(&self, key: &str, name: &str, version: &str, seed: f32) -> String {
        let (_, short) = name.split_once('/').unwrap();
        let request = json!({ "name": short, "visibility": "private" });
        let made = self.request(0, Method::POST, "adapters", key).json(&request).send().await.unwrap();
        assert!(matches!(made.status().as_u16(), 201 | 409), "{}", made.text().await.unwrap());
        let shape = tiny().shape;
        let path = "layers.0.self_attn.q_proj";
        let mut a = Tensor::new(path, "lora_A.weight", Stored::F32, &[1, shape.hidden_size]);
        a.values[0] = seed;
        let b = Tensor::new(path, "lora_B.weight", Stored::F32, &[shape.query_size(), 1]);
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "someone/tiny-base", "r": 1,
            "lora_alpha": 1, "target_modules": ["q_proj"], "layers_to_transform": [0],
        });
        let form = Form::new()
            .text("version", version.to_owned())
            .part("adapter_config.json", Part::bytes(config.to_string().into_bytes()))
            .part("adapter_model.safetensors", Part::bytes(weights_file(&[a, b])));
        let path = format!("adapters/{name}/versions");
        let published = done(self.request(0, Method::POST, &path, key).multipart(form)).await;
        published["digest"].as_str().unwrap().to_owned()
    }
}

impl Running {
    async fn serve(registry: Registry, address: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (router, _) = souk_registry::router(registry.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let proxy = Proxy::before(&url);
        Self { registry, url, proxy, _server: AbortOnDropHandle::new(server) }
    }
}

impl Apart {
    pub(crate) async fn principal(&self, presented: &str) -> Option<Principal> {
        self.catalog.authenticate(presented).await.ok()
    }

    /// The version that a reference means.
    pub(crate) async fn version(&self, principal: &Principal, reference: &str) -> Result<String, String> {
        let reference: AdapterRef = reference.parse().unwrap();
        let resolved = self.catalog.resolve(principal, &reference).await;
        resolved.map(|found| found.version.to_string()).map_err(|error| error.to_string())
    }

    /// Waits until it hears of withdrawals.
    pub(crate) async fn ready(&self) {
        until("it hears", Duration::from_secs(20), async || self.catalog.lost_for().is_none()).await;
    }
}

pub(crate) async fn done(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{status} {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

/// Waits for what must come within `limit`; answers after how long it did.
pub(crate) async fn until(what: &str, limit: Duration, mut check: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !check().await {
        assert!(began.elapsed() < limit, "after {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}
