//! Two registries on one database, with callers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use souk_gateway::Catalog;
use souk_protocol::{AdapterRef, BaseModel};
use souk_registries::{HttpCatalog, KeySource, Settings};
use souk_registry::{ApiKey, Registry, RegistryConfig, SslMode};
use souk_testkit::base::{SMALL, base};
use souk_testkit::peft::{Stored, Tensor, weights_file};
use tempfile::TempDir;

/// A tenant's key and what it calls.
pub(crate) struct Caller {
    /// The key.
    pub(crate) key: String,
    /// An adapter that is the tenant's own.
    pub(crate) adapter: AdapterRef,
}

/// All of it. The servers end with the process.
pub(crate) struct Field {
    _folder: TempDir,
    registries: Vec<Registry>,
    urls: Vec<String>,
    admin_key: String,
    services_key: String,
    http: Client,
    /// Who calls.
    pub(crate) callers: Vec<Caller>,
}

impl Field {
    /// Two registries on PostgreSQL at `url`, else on SQLite.
    pub(crate) async fn start(url: Option<String>, num_callers: usize) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let model = base("tiny-base", SMALL);
        let model = BaseModel { aliases: vec![model.id.clone()], ..model };
        let (mut registries, mut urls, mut admin_key) = (Vec::new(), Vec::new(), None);
        for _ in 0..2 {
            let mut config = RegistryConfig::new(folder.path());
            if let Some(url) = &url {
                config.settings.database.url = url.clone().into();
                config.settings.database.sslmode = SslMode::Disable;
            }
            let registry = Registry::open_embedded(config, vec![model.clone()]).await?;
            admin_key = admin_key.or(registry.bootstrap().await?);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            urls.push(format!("http://{}", listener.local_addr()?));
            let (router, _) = souk_registry::router(registry.clone());
            tokio::spawn(async move { axum::serve(listener, router).await });
            registries.push(registry);
        }
        let admin_key = admin_key.context("the first start makes a key")?.expose().to_owned();
        let (services_key, http, callers) = (String::new(), Client::new(), Vec::new());
        let mut field = Self { _folder: folder, registries, urls, admin_key, services_key, http, callers };
        field.services_key = text(&field.operator("services", json!({ "name": "gateway" })).await?, "secret")?;
        for number in 0..num_callers {
            let caller = field.caller(number).await?;
            field.callers.push(caller);
        }
        Ok(field)
    }

    /// The first registry.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registries[0]
    }

    /// A gateway's catalog that knows both registries, once it hears of withdrawals.
    pub(crate) async fn gateway(&self) -> anyhow::Result<Arc<dyn Catalog>> {
        let (catalog, mut withdrawn) = HttpCatalog::new(&Settings {
            section: "gateway",
            addresses: self.urls.clone(),
            root_cert: None,
            client_cert: None,
            key: KeySource::Text(self.services_key.clone().into()),
            stale: Duration::from_secs(5),
            id_of_key: |presented| ApiKey::parse(presented).ok().map(|key| key.id()),
        })?;
        tokio::spawn(async move { while withdrawn.recv().await.is_some() {} });
        while catalog.lost_for().is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(Arc::new(catalog))
    }

    /// A key of the first caller's tenant: its id and the secret.
    pub(crate) async fn new_key(&self) -> anyhow::Result<(String, String)> {
        self.key_of("tenant-0").await
    }

    /// What a key is exchanged for.
    pub(crate) async fn token(&self, key: &str) -> anyhow::Result<String> {
        text(&done(self.request("auth/token", key).json(&json!({}))).await?, "access_token")
    }

    /// Revokes a key at the first registry.
    pub(crate) async fn revoke(&self, id: &str) -> anyhow::Result<()> {
        let url = format!("{}/registry/v1/keys/{id}", self.urls[0]);
        done(self.http.request(Method::DELETE, url).bearer_auth(&self.admin_key)).await.map(drop)
    }

    async fn caller(&self, number: usize) -> anyhow::Result<Caller> {
        let tenant = format!("tenant-{number}");
        self.operator("tenants", json!({ "name": tenant })).await?;
        let (_, key) = self.key_of(&tenant).await?;
        done(self.request("adapters", &key).json(&json!({ "name": "tone", "visibility": "private" }))).await?;
        let path = "layers.0.self_attn.q_proj";
        let a = Tensor::new(path, "lora_A.weight", Stored::F32, &[1, SMALL.hidden_size]);
        let b = Tensor::new(path, "lora_B.weight", Stored::F32, &[SMALL.query_size(), 1]);
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "someone/tiny-base", "r": 1,
            "lora_alpha": 1, "target_modules": ["q_proj"], "layers_to_transform": [0],
        });
        let form = Form::new()
            .text("version", "1.0.0")
            .part("adapter_config.json", Part::bytes(config.to_string().into_bytes()))
            .part("adapter_model.safetensors", Part::bytes(weights_file(&[a, b])));
        done(self.request(&format!("adapters/{tenant}/tone/versions"), &key).multipart(form)).await?;
        Ok(Caller { key, adapter: format!("{tenant}/tone").parse()? })
    }

    async fn key_of(&self, tenant: &str) -> anyhow::Result<(String, String)> {
        let scopes = ["inference", "adapters:read", "adapters:write"];
        let made = self.operator("keys", json!({ "name": "k", "tenant": tenant, "scopes": scopes })).await?;
        Ok((text(&made, "id")?, text(&made, "secret")?))
    }

    async fn operator(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        done(self.request(path, &self.admin_key).json(&body)).await
    }

    fn request(&self, path: &str, key: &str) -> RequestBuilder {
        self.http.post(format!("{}/registry/v1/{path}", self.urls[0])).bearer_auth(key)
    }
}

async fn done(request: RequestBuilder) -> anyhow::Result<Value> {
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{status} {text}");
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

fn text(object: &Value, field: &str) -> anyhow::Result<String> {
    object[field].as_str().map(str::to_owned).with_context(|| format!("{object} has no {field}"))
}
