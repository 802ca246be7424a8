//! Two registries and two gateways, each a process.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stack::{BASE, repository};

/// Settings as variables.
pub(crate) type Variables = Vec<(String, String)>;

/// A process and what it said.
pub(crate) struct Process {
    arguments: Vec<String>,
    variables: Variables,
    child: Child,
    log: Arc<Mutex<String>>,
    pub(crate) url: String,
}

/// The fleet and where it keeps its data.
pub(crate) struct Fleet {
    pub(crate) registries: Vec<Process>,
    pub(crate) gateways: Vec<Process>,
    pub(crate) admin_key: String,
    /// Keys of gateways.
    pub(crate) services_keys: Vec<String>,
    pub(crate) home: TempDir,
    pub(crate) http: Client,
}

/// A database of PostgreSQL and a bucket.
#[cfg(has_postgres)]
pub(crate) struct Stores {
    pub(crate) bucket: souk_testkit_s3::S3Server,
    url: String,
    _database: souk_testkit::postgres::TestDatabase,
}

#[cfg(has_postgres)]
impl Stores {
    pub(crate) async fn start() -> Self {
        let bucket = souk_testkit_s3::S3Server::start().await;
        let database = souk_testkit::postgres::Postgres::shared().database();
        Self { bucket, url: database.url(), _database: database }
    }

    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        vec![
            ("SOUK_REGISTRY__DATABASE__URL", self.url.as_str()),
            ("SOUK_REGISTRY__DATABASE__SSLMODE", "disable"),
            ("SOUK_OBJECTS__URL", "s3://souk-objects/prod"),
            ("SOUK_OBJECTS__ENDPOINT", self.bucket.endpoint()),
            ("SOUK_OBJECTS__ACCESS_KEY_ID", souk_testkit_s3::ACCESS_KEY_ID),
            ("SOUK_OBJECTS__SECRET_ACCESS_KEY", souk_testkit_s3::SECRET_ACCESS_KEY),
        ]
    }
}

/// A description of the base model, made once.
pub(crate) fn described_base() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("souk-base-{}.json", std::process::id()));
        let made = souk(&["models", "describe", BASE, "--file", path.to_str().unwrap()], &[]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    })
}

/// Runs the executable to its end.
pub(crate) fn souk(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_souk")).args(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// An address that nobody has now, so that a process can have it, and have it again.
pub(crate) fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Fleet {
    /// On SQLite and a folder, both of one host.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these settings for all registries.
    pub(crate) async fn start_with(of_registries: &[(&str, &str)]) -> Self {
        let mut fleet = Self::registries_alone(of_registries).await;
        for number in [0, 1] {
            let gateway = fleet.gateway(number, &[]);
            fleet.gateways.push(gateway);
        }
        fleet.until_ready().await;
        fleet
    }

    pub(crate) async fn registries_alone(of_registries: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let key_file = home.path().join("admin.key");
        let mut registries = Vec::new();
        for _ in 0..2 {
            let data = home.path().join("data").display().to_string();
            let base = described_base().display().to_string();
            let (listen, key_file) = (free_address(), key_file.display().to_string());
            let arguments =
                ["registry", "--listen", &listen, "--base", &base, "--data-dir", &data, "--admin-key-file", &key_file];
            registries.push(Process::start(&arguments, of_registries));
        }
        let admin_key = std::fs::read_to_string(key_file).unwrap().trim().to_owned();
        let http = Client::builder().timeout(Duration::from_secs(120)).build().unwrap();
        let (gateways, services_keys) = (Vec::new(), Vec::new());
        let mut fleet = Self { registries, gateways, admin_key, services_keys, home, http };
        for name in ["gateway-1", "gateway-2"] {
            let made = fleet.souk(&["services", "create", name]);
            fleet.services_keys.push(made.trim().to_owned());
        }
        fleet
    }

    /// Starts the gateway with this number.
    pub(crate) fn gateway(&self, number: usize, more: &[(&str, &str)]) -> Process {
        let data = self.home.path().join(format!("node-{number}")).display().to_string();
        let registries: Vec<&str> = self.registries.iter().map(|registry| registry.url.as_str()).collect();
        let registries = registries.join(",");
        let mut variables = vec![
            ("SOUK_GATEWAY__REGISTRIES", registries.as_str()),
            ("SOUK_GATEWAY__REGISTRY_KEY", self.services_keys[number].as_str()),
            // Little of everything: several share the machine.
            ("SOUK_ENGINE__THREADS", "1"),
        ];
        variables.extend(more);
        Process::start(&["gateway", "--listen", &free_address(), "--model", BASE, "--data-dir", &data], &variables)
    }

    pub(crate) async fn until_ready(&self) {
        for gateway in &self.gateways {
            let ready = async || self.ready(gateway).await.0 == 200;
            until("it is ready", Duration::from_secs(60), ready).await;
        }
    }

    /// What `/ready` of a process says.
    pub(crate) async fn ready(&self, process: &Process) -> (u16, Value) {
        let answer = self.http.get(format!("{}/ready", process.url)).send().await;
        let Ok(answer) = answer else { return (0, Value::Null) };
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Runs a subcommand with the admin key at the first registry.
    pub(crate) fn souk(&self, arguments: &[&str]) -> String {
        let variables = [("SOUK_URL", self.registries[0].url.as_str()), ("SOUK_API_KEY", self.admin_key.as_str())];
        let output = souk(arguments, &variables);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "souk {arguments:?}: {stderr}\n{}", self.registries[0].log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Publishes an example adapter as `reference`.
    pub(crate) fn push(&self, example: &str, reference: &str) {
        let folder = repository().join("examples/adapters").join(example);
        self.souk(&["push", folder.to_str().unwrap(), reference]);
    }

    /// A request to the registry with this number.
    pub(crate) fn at_registry(&self, number: usize, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/registry/v1/{path}", self.registries[number].url);
        self.http.request(method, url).bearer_auth(&self.admin_key)
    }

    /// A new key of the operator's tenant that may call models: its id and the secret.
    pub(crate) async fn key(&self) -> (String, String) {
        let request = json!({ "name": "k", "scopes": ["inference", "adapters:read"] });
        let made = done(self.at_registry(0, Method::POST, "keys").json(&request)).await;
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        (text("id"), text("secret"))
    }

    pub(crate) async fn token(&self, key: &str) -> String {
        let url = format!("{}/registry/v1/auth/token", self.registries[0].url);
        let exchanged = done(self.http.post(url).bearer_auth(key).json(&json!({}))).await;
        exchanged["access_token"].as_str().unwrap().to_owned()
    }

    /// Asks a gateway for a completion: the status, the body, and whether it says when to come back.
    pub(crate) async fn complete(&self, gateway: &Process, key: &str, body: &Value) -> (u16, Value, bool) {
        let request = self.http.post(format!("{}/v1/completions", gateway.url)).bearer_auth(key).json(body);
        let answer = request.send().await.unwrap();
        let (status, says_when) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
        (status, answer.json().await.unwrap(), says_when)
    }

    /// The status of what is cheapest to ask a gateway: what a model is.
    pub(crate) async fn look(&self, gateway: &Process, key: &str, model: &str) -> u16 {
        let url = format!("{}/v1/models/{model}", gateway.url);
        let answer = self.http.get(url).bearer_auth(key).send().await;
        answer.map_or(0, |answer| answer.status().as_u16())
    }
}

impl Process {
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        let variables: Variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (child, url, log) = launch(&arguments, &variables);
        Self { arguments, variables, child, log, url }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its id, as the system knows it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory of it, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Where its operators' port is, if it has one of its own.
    pub(crate) fn operators_url(&self) -> Option<String> {
        self.log().lines().find_map(|line| line.strip_prefix("operators on ")).map(str::to_owned)
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal, such as `-STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Ends it with SIGTERM; answers whether it ended in good order, and after how long.
    pub(crate) fn end(&mut self) -> (bool, Duration) {
        let began = Instant::now();
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        (self.child.wait().unwrap().success(), began.elapsed())
    }

    /// Starts it again, with the same address.
    pub(crate) fn restart(&mut self) {
        (self.child, self.url, self.log) = launch(&self.arguments, &self.variables);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn launch(arguments: &[String], variables: &Variables) -> (Child, String, Arc<Mutex<String>>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_souk"))
        .args(arguments)
        // What an installation begins with takes a while to compile, and is looked at in a test of its own.
        .env("SOUK_REGISTRY__HOOKS__INSTALL", "false")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    collect(child.stderr.take().unwrap(), Arc::clone(&log));
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while stdout.read_line(&mut line).unwrap() > 0 {
        if let Some(url) = line.trim().strip_prefix("listening on ") {
            let url = url.to_owned();
            // The rest is read too, so that it never blocks on a full pipe.
            collect(stdout, Arc::clone(&log));
            return (child, url, log);
        }
        log.lock().unwrap().push_str(&line);
        line.clear();
    }
    child.wait().ok();
    std::thread::sleep(Duration::from_millis(100));
    panic!("souk {arguments:?} did not start\n{}", log.lock().unwrap());
}

fn collect(source: impl std::io::Read + Send + 'static, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
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
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

/// Variables of a process whose wall clock is as far from the true one as a file says, in seconds.
pub(crate) fn set_by(file: &Path) -> [(&'static str, &str); 5] {
    std::fs::write(file, "+0").unwrap();
    [
        // The build script found it, or the test is ignored.
        ("LD_PRELOAD", option_env!("LIBFAKETIME").unwrap_or_default()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("FAKETIME_FAKE_TIMED_WAITS", "0"),
    ]
}
