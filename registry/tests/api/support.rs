//! One registry with its server, and the smallest adapter that it accepts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, Statement};
use serde_json::{Value, json};
use souk_http::public_url::PublicUrl;
use souk_protocol::{BaseModel, Digest, LlamaShape, Principal};
use souk_registry::{FolderStore, ObjectSettings, ObjectStore, Registry, RegistryConfig, SslMode, open_database};
use souk_testkit::base::{SMALL, SMOLLM2, base};
pub(crate) use souk_testkit::peft::with_header;
use souk_testkit::postgres::Postgres;
use souk_testkit_s3::{ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A running registry.
pub(crate) struct Stack {
    pub(crate) registry: Registry,
    pub(crate) admin: User,
    pub(crate) base_url: String,
    pub(crate) folder: Arc<TempDir>,
    server: tokio::task::JoinHandle<()>,
}

/// A client with a key.
#[derive(Clone)]
pub(crate) struct User {
    base_url: String,
    pub(crate) key: String,
    pub(crate) client: Client,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut RegistryConfig)) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), change).await
    }

    /// A registry in a folder where others may have been or are.
    pub(crate) async fn start_in(folder: Arc<TempDir>, change: impl FnOnce(&mut RegistryConfig)) -> Self {
        let mut config = config_in(folder.path());
        change(&mut config);
        let registry = Registry::open_embedded(config, bases()).await.unwrap();
        Self::serve(registry, folder).await
    }

    /// A registry whose object store is `wrap` around a folder.
    pub(crate) async fn start_on(wrap: impl FnOnce(FolderStore) -> Arc<dyn ObjectStore>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let store = FolderStore::open(folder.path().join("objects")).await.unwrap();
        let registry = Registry::open(config_in(folder.path()), database_of(folder.path()).await, wrap(store), bases())
            .await
            .unwrap();
        Self::serve(registry, folder).await
    }

    pub(crate) async fn serve(registry: Registry, folder: Arc<TempDir>) -> Self {
        let key = registry.bootstrap().await.unwrap().map(|key| key.expose().to_owned());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let base_url = format!("http://{address}/registry/v1");
        registry.serves_at(PublicUrl::of_this_machine(address).unwrap());
        registry.takes_hooks(crate::components::intake());
        let (router, _) = souk_registry::router(registry.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let admin = User::new(&base_url, &key.unwrap_or_default());
        Self { registry, admin, base_url, folder, server }
    }

    /// Ends the server as a kill would, with nothing said to anyone, and gives its folder back.
    pub(crate) async fn kill(mut self) -> Arc<TempDir> {
        self.server.abort();
        let _ = (&mut self.server).await;
        self.folder.clone()
    }

    /// Ends the server and its connections to the database, and gives its folder back.
    pub(crate) async fn close(self) -> Arc<TempDir> {
        let registry = self.registry.clone();
        let folder = self.kill().await;
        registry.close().await;
        folder
    }

    /// A new tenant with a key that has all scopes but `admin`.
    pub(crate) async fn tenant(&self, name: &str) -> User {
        let made = self.admin.post("/tenants", json!({ "name": name })).await;
        assert_eq!(made.status(), StatusCode::CREATED);
        self.key_for(name, &["inference", "adapters:read", "adapters:write", "keys:manage"]).await
    }

    pub(crate) async fn key_for(&self, tenant: &str, scopes: &[&str]) -> User {
        let request = json!({ "name": "test", "scopes": scopes, "tenant": tenant });
        let answer = body(self.admin.post("/keys", request).await, StatusCode::CREATED).await;
        self.user(answer["secret"].as_str().unwrap())
    }

    pub(crate) fn user(&self, key: &str) -> User {
        User::new(&self.base_url, key)
    }

    pub(crate) async fn principal(&self, user: &User) -> Principal {
        self.registry.authenticate(&user.key).await.unwrap()
    }

    /// The registry's database, by a connection of the test's own.
    pub(crate) async fn database(&self) -> DatabaseConnection {
        database_of(self.folder.path()).await
    }

    /// The number that a query answers as `n`.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        number_of(&self.database().await, query).await
    }

    /// How many entries of the audit say that this was done to `subject`, with this text among their details.
    pub(crate) async fn num_audited(&self, action: &str, subject: &str, details: &str) -> i64 {
        let entries = format!(
            "SELECT count(*) AS n FROM audit_entries \
             WHERE action = '{action}' AND subject = '{subject}' AND details LIKE '%{details}%'"
        );
        self.number(&entries).await
    }

    /// How many files are in the object store, staged ones included.
    pub(crate) fn num_objects(&self) -> usize {
        num_objects(self.folder.path())
    }
}

/// The settings of a registry in this folder, on the database that belongs to it.
pub(crate) fn config_in(folder: &Path) -> RegistryConfig {
    let mut config = RegistryConfig::new(folder);
    if crate::ON_POSTGRES {
        config.settings.database.url = url_of(folder).into();
        config.settings.database.sslmode = SslMode::Disable;
    }
    config
}

/// Bytes of a part of a large object: the least that S3 takes.
pub(crate) const PART: usize = 5 << 20;

/// Settings for the bucket of the server at `endpoint`, with short waits.
pub(crate) fn s3_at(endpoint: &str) -> ObjectSettings {
    ObjectSettings {
        url: format!("s3://{BUCKET}/of/tests"),
        endpoint: endpoint.to_owned(),
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key: SECRET_ACCESS_KEY.to_owned().into(),
        part_bytes: PART as u64,
        attempts: 3,
        stall_timeout: Duration::from_millis(300),
        ..ObjectSettings::default()
    }
}

pub(crate) async fn database_of(folder: &Path) -> DatabaseConnection {
    open_database(&config_in(folder)).await.unwrap().own
}

/// The number that a query answers as `n`.
pub(crate) async fn number_of(db: &DatabaseConnection, query: &str) -> i64 {
    let query = Statement::from_string(db.get_database_backend(), query);
    db.query_one_raw(query).await.unwrap().unwrap().try_get("", "n").unwrap()
}

/// The PostgreSQL database of a folder. Other processes read its address there.
fn url_of(folder: &Path) -> String {
    let file = folder.join("database-url");
    std::fs::read_to_string(&file).unwrap_or_else(|_| {
        let database = Postgres::shared().database();
        std::fs::write(&file, database.url()).unwrap();
        let url = database.url();
        // A later test removes it, once this process is gone.
        std::mem::forget(database);
        url
    })
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Leases of a third of a second or so, and a collector that is at it all the time.
pub(crate) fn in_haste(config: &mut RegistryConfig) {
    config.settings.lease = LEASE;
    config.settings.collect_every = Duration::from_millis(50);
    config.settings.sweep_every = Duration::from_millis(200);
}

/// The lease of registries that are [`in_haste`].
pub(crate) const LEASE: Duration = Duration::from_millis(1500);

/// How many files are in the object store of a data folder, staged ones included.
pub(crate) fn num_objects(data_dir: &Path) -> usize {
    ["sha256", "staging"].map(|folder| count_files(&data_dir.join("objects").join(folder))).into_iter().sum()
}

/// Waits for what must come within some seconds.
pub(crate) async fn wait_until(what: &str, check: impl AsyncFnMut() -> bool) {
    assert!(until(check).await, "after twenty seconds: {what}");
}

/// The same; answers whether it has come.
pub(crate) async fn until(mut check: impl AsyncFnMut() -> bool) -> bool {
    for _ in 0..800 {
        if check().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    false
}

fn count_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count_files(&path) } else { 1 }).sum()
}

impl User {
    pub(crate) fn new(base_url: &str, key: &str) -> Self {
        Self { base_url: base_url.to_owned(), key: key.to_owned(), client: Client::new() }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base_url)).bearer_auth(&self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.request(Method::POST, path).json(&body).send().await.unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Response {
        self.request(Method::PUT, path).json(&body).send().await.unwrap()
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Response {
        self.request(Method::PATCH, path).json(&body).send().await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) -> Response {
        self.request(Method::DELETE, path).send().await.unwrap()
    }

    pub(crate) async fn make_adapter(&self, name: &str, visibility: &str) -> Value {
        let answer = self.post("/adapters", json!({ "name": name, "visibility": visibility })).await;
        body(answer, StatusCode::CREATED).await
    }

    pub(crate) async fn upload(&self, adapter: &str, version: &str, files: &AdapterFiles) -> Response {
        let request = self.request(Method::POST, &format!("/adapters/{adapter}/versions"));
        request.multipart(files.form(version)).send().await.unwrap()
    }

    /// Uploads the smallest adapter; `seed` makes its weights differ from others.
    pub(crate) async fn publish(&self, adapter: &str, version: &str, seed: u8) -> Value {
        body(self.upload(adapter, version, &AdapterFiles::tiny(seed)).await, StatusCode::CREATED).await
    }
}

/// The body of an answer that must have `status`.
#[track_caller]
pub(crate) fn body(answer: Response, status: StatusCode) -> impl Future<Output = Value> {
    let place = std::panic::Location::caller();
    async move {
        let given = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(given, status, "at {place}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// An answer that must be a problem with this status and code.
#[track_caller]
pub(crate) fn problem(answer: Response, status: StatusCode, code: &str) -> impl Future<Output = Value> {
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let has_request_id = answer.headers()["x-request-id"].to_str().unwrap().starts_with("req_");
    let code = code.to_owned();
    let body = body(answer, status);
    async move {
        let body = body.await;
        assert_eq!(content_type, "application/problem+json");
        assert!(has_request_id);
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status.as_u16());
        body
    }
}

/// The files of an upload.
#[derive(Clone)]
pub(crate) struct AdapterFiles {
    pub(crate) config: Value,
    pub(crate) tensors: Vec<(String, [usize; 2], Vec<f32>)>,
}

const RANK: usize = 2;

impl AdapterFiles {
    /// Rank 2 on the query and value projections of both layers of the tiny base.
    pub(crate) fn tiny(seed: u8) -> Self {
        let shape = tiny_base().shape;
        let mut tensors = Vec::new();
        for layer in 0..shape.num_layers {
            for (module, out) in [("q_proj", shape.query_size()), ("v_proj", shape.kv_size())] {
                let prefix = format!("base_model.model.model.layers.{layer}.self_attn.{module}");
                let filled = |len: usize| vec![0.5 + f32::from(seed); len];
                tensors.push((
                    format!("{prefix}.lora_A.weight"),
                    [RANK, shape.hidden_size],
                    filled(RANK * shape.hidden_size),
                ));
                tensors.push((format!("{prefix}.lora_B.weight"), [out, RANK], filled(out * RANK)));
            }
        }
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "someone/Tiny-Base",
            "r": RANK, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"]
        });
        Self { config, tensors }
    }

    /// More than a part of a large object, for the other base.
    pub(crate) fn large() -> Self {
        let (rank, hidden) = (40, SMOLLM2.hidden_size);
        let mut tensors = Vec::new();
        for layer in 0..SMOLLM2.num_layers {
            let prefix = format!("base_model.model.model.layers.{layer}.self_attn.q_proj");
            for (half, shape) in [("A", [rank, hidden]), ("B", [SMOLLM2.query_size(), rank])] {
                tensors.push((format!("{prefix}.lora_{half}.weight"), shape, vec![0.01; shape[0] * shape[1]]));
            }
        }
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "smollm2-135m-instruct",
            "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]
        });
        Self { config, tensors }
    }

    pub(crate) fn config_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.config).unwrap()
    }

    pub(crate) fn header(&self) -> String {
        let mut end = 0;
        let entries = self.tensors.iter().map(|(name, shape, values)| {
            let start = end;
            end += values.len() * 4;
            format!(r#""{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#)
        });
        format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.tensors.iter().flat_map(|(_, _, values)| values).flat_map(|value| value.to_le_bytes()).collect()
    }

    pub(crate) fn weights_bytes(&self) -> Vec<u8> {
        with_header(&self.header(), &self.data())
    }

    pub(crate) fn form(&self, version: &str) -> Form {
        form(version, self.config_bytes(), self.weights_bytes())
    }
}

/// Begins an upload of which the weights go straight to the store; answers it.
pub(crate) async fn begin_upload(user: &User, adapter: &str, version: &str, weights: &[u8]) -> Value {
    let request = announcement(version, weights);
    body(user.post(&format!("/adapters/{adapter}/uploads"), request).await, StatusCode::CREATED).await
}

/// What is said of weights before they are sent.
pub(crate) fn announcement(version: &str, weights: &[u8]) -> Value {
    json!({ "version": version, "digest": Digest::of(weights).to_string(), "size_bytes": weights.len() })
}

/// Sends some parts of an upload, by number.
pub(crate) async fn send_parts(user: &User, adapter: &str, upload: &Value, weights: &[u8], numbers: &[usize]) {
    let chunks: Vec<_> = weights.chunks(upload["part_bytes"].as_u64().unwrap() as usize).collect();
    assert_eq!(upload["num_parts"], chunks.len());
    let part = |number: &usize| json!({ "number": number, "digest": Digest::of(chunks[number - 1]).to_string() });
    let path = format!("/adapters/{adapter}/uploads/{}/parts", upload["id"].as_str().unwrap());
    let asked = json!({ "parts": numbers.iter().map(part).collect::<Vec<_>>() });
    let addresses = body(user.post(&path, asked).await, StatusCode::OK).await;
    for (number, address) in numbers.iter().zip(addresses["data"].as_array().unwrap()) {
        assert_eq!(address["number"], *number);
        assert_eq!(send_part(address, chunks[number - 1]).await, StatusCode::OK);
    }
}

/// Sends bytes to an address, as a client that has nothing else does.
pub(crate) async fn send_part(address: &Value, bytes: &[u8]) -> StatusCode {
    let mut request = Client::new().put(address["url"].as_str().unwrap());
    for (name, value) in address["headers"].as_object().unwrap() {
        if name != "content-length" {
            request = request.header(name, value.as_str().unwrap());
        }
    }
    request.body(bytes.to_vec()).send().await.unwrap().status()
}

/// A request that completes an upload with this configuration.
pub(crate) fn completion(user: &User, adapter: &str, upload: &Value, config: Vec<u8>) -> RequestBuilder {
    let path = format!("/adapters/{adapter}/uploads/{}/complete", upload["id"].as_str().unwrap());
    let form = Form::new().part("adapter_config.json", Part::bytes(config));
    user.request(Method::POST, &path).multipart(form)
}

pub(crate) fn form(version: &str, config: Vec<u8>, weights: Vec<u8>) -> Form {
    Form::new()
        .text("version", version.to_owned())
        .part("adapter_config.json", Part::bytes(config))
        .part("adapter_model.safetensors", Part::bytes(weights))
}

/// A form whose weights stop half way and go on when the sender says so. Dropping the sender leaves them there.
pub(crate) fn halting_form(version: &str, seed: u8) -> (Form, oneshot::Sender<()>) {
    let files = AdapterFiles::tiny(seed);
    let mut weights = bytes::Bytes::from(files.weights_bytes());
    let rest = weights.split_off(weights.len() / 2);
    let (go_on, told) = oneshot::channel();
    let second = async move {
        if told.await.is_err() {
            std::future::pending::<()>().await;
        }
        Ok::<_, std::io::Error>(rest)
    };
    let stream = futures::stream::once(async move { Ok(weights) }).chain(futures::stream::once(second));
    let weights = Part::stream(reqwest::Body::wrap_stream(stream));
    let form = Form::new()
        .text("version", version.to_owned())
        .part("adapter_config.json", Part::bytes(files.config_bytes()))
        .part("adapter_model.safetensors", weights);
    (form, go_on)
}

pub(crate) fn bases() -> Vec<BaseModel> {
    vec![tiny_base(), smollm2()]
}

fn tiny_base() -> BaseModel {
    named(base(
        "tiny-base",
        LlamaShape { hidden_size: 8, intermediate_size: 16, num_heads: 2, num_kv_heads: 1, ..SMALL },
    ))
}

fn smollm2() -> BaseModel {
    named(base("smollm2-135m-instruct", SMOLLM2))
}

/// The model, which is found by its id too.
fn named(base: BaseModel) -> BaseModel {
    BaseModel { aliases: vec![base.id.clone()], ..base }
}
