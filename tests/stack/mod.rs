//! Starts the real executable on a free port with a data folder of its own, for whole-stack tests.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of this module")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The id of the base model that the tests serve.
pub const BASE: &str = "smollm2-135m-instruct";

/// A running server and the folder that it keeps its data in. Ends the server when dropped.
pub struct Stack {
    server: Child,
    home: TempDir,
    settings: Vec<(String, String)>,
    /// The size of the disk of its own that the data folder is on, in MiB.
    small_disk_mib: Option<usize>,
    log: Arc<Mutex<String>>,
    /// Where the server listens, for example `http://127.0.0.1:41234`.
    pub url: String,
    /// The admin key that the first start made.
    pub admin_key: String,
}

impl Stack {
    /// Starts a server with small pools.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with settings as environment variables, for example `SOUK_QUEUE__MAX_QUEUED`.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_on(None, settings)
    }

    /// Starts a server whose data folder is on a disk of its own, of so many MiB, which others do not see. Needs leave to
    /// mount in a namespace.
    pub fn start_on_small_disk(mib: usize, settings: &[(&str, &str)]) -> Self {
        Self::start_on(Some(mib), settings)
    }

    fn start_on(small_disk_mib: Option<usize>, settings: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (server, url, log) = launch(home.path(), small_disk_mib, &settings);
        let admin_key = std::fs::read_to_string(home.path().join("admin.key")).expect("the first start writes a key");
        Self { server, home, settings, small_disk_mib, log, url, admin_key: admin_key.trim().to_owned() }
    }

    /// Where operators reach the server, if it was started with `server.admin_listen`.
    pub fn operators_url(&self) -> String {
        let log = self.log();
        let url = log.lines().find_map(|line| line.strip_prefix("operators on "));
        url.expect("the start says where").to_owned()
    }

    /// The folder of the server's data.
    pub fn data_dir(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Resident memory of the server, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most that it was since the last start.
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// Lets the peak begin anew at what there is.
    pub fn forget_the_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.server.id()), "5").expect("Linux lets its parent");
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("Linux reports it");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    /// What the server has logged since its last start.
    pub fn log(&self) -> String {
        self.log.lock().expect("no thread panics with the log").clone()
    }

    /// Ends the server without warning, as a crash would.
    pub fn kill(&mut self) {
        self.server.kill().expect("the server runs");
        self.server.wait().expect("the server is our child");
    }

    /// Sends SIGTERM and does not wait.
    pub fn terminate(&self) {
        let status = Command::new("kill").arg(self.server.id().to_string()).status().expect("kill runs");
        assert!(status.success());
    }

    /// Waits for the server to end by itself and returns whether it did so in good order.
    pub fn wait(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.server.try_wait().expect("the server is our child") {
                return status.success();
            }
            assert!(Instant::now() < end, "the server still runs after {limit:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the server again on the same data.
    pub fn restart(&mut self) {
        let (server, url, log) = launch(self.home.path(), self.small_disk_mib, &self.settings);
        (self.server, self.url, self.log) = (server, url, log);
    }

    /// Runs a subcommand of the executable against this server and returns its standard output.
    pub fn souk(&self, arguments: &[&str]) -> String {
        self.souk_as(&self.admin_key, arguments)
    }

    /// Runs a subcommand and returns what it did, success or not.
    pub fn souk_output(&self, arguments: &[&str]) -> std::process::Output {
        self.souk_as_output(&self.admin_key, arguments)
    }

    /// Runs a subcommand with another key and returns its standard output.
    pub fn souk_as(&self, key: &str, arguments: &[&str]) -> String {
        let output = self.souk_as_output(key, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "souk {arguments:?} failed:\n{stderr}\nserver log:\n{}", self.log());
        String::from_utf8(output.stdout).expect("the output is text")
    }

    /// Runs a subcommand with another key and returns what it did, success or not.
    pub fn souk_as_output(&self, key: &str, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_souk"))
            .args(arguments)
            .env("SOUK_URL", &self.url)
            .env("SOUK_API_KEY", key)
            .output()
            .expect("the executable runs")
    }

    /// Publishes `folder` as `reference`.
    pub fn push(&self, folder: &Path, reference: &str) {
        let folder = folder.to_str().expect("the path is text");
        self.souk(&["push", folder, reference]);
    }

    /// Publishes the three example adapters under `admin/`.
    pub fn push_examples(&self) {
        for name in ["sst2", "sarcasm", "address-json"] {
            self.push(&repository().join("examples/adapters").join(name), &format!("admin/{name}@1.0.0"));
        }
    }

    /// Runs a script of `tests/client` against this server.
    pub fn python(&self, script: &str) {
        self.python_with(script, &[]);
    }

    /// The same with further variables.
    pub fn python_with(&self, script: &str, variables: &[(&str, &str)]) {
        let own = [("SOUK_URL", self.url.as_str()), ("SOUK_API_KEY", &self.admin_key), ("SOUK_BASE", BASE)];
        let variables: Vec<_> = own.into_iter().chain(variables.iter().copied()).collect();
        if let Err(failure) = run_python(script, &variables) {
            panic!("{failure}\nserver log:\n{}", self.log());
        }
    }

    /// An HTTP client that sends the admin key.
    pub fn http(&self) -> reqwest::Client {
        let mut headers = reqwest::header::HeaderMap::new();
        let value = format!("Bearer {}", self.admin_key).parse().expect("a key is a header value");
        headers.insert(reqwest::header::AUTHORIZATION, value);
        reqwest::Client::builder().default_headers(headers).build().expect("the client is set up")
    }

    /// Posts JSON and returns status and body.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let response = self.http().post(format!("{}{path}", self.url)).json(body).send().await.expect("an answer");
        let status = response.status().as_u16();
        let text = response.text().await.expect("a body");
        let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {status} {text}"));
        (status, value)
    }

    /// Value of an unlabelled metric or the sum over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.http().get(format!("{}/metrics", self.url)).send().await.expect("an answer").text().await;
        text.expect("a body")
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // It may have ended already.
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// Runs a script of `tests/client` with the virtual environment's Python and these variables; the script fails by raising.
pub fn python(script: &str, variables: &[(&str, &str)]) {
    if let Err(failure) = run_python(script, variables) {
        panic!("{failure}");
    }
}

fn run_python(script: &str, variables: &[(&str, &str)]) -> Result<(), String> {
    let python = std::env::var_os("SOUK_TEST_PYTHON").map_or_else(default_python, PathBuf::from);
    assert!(python.is_file(), "{} is missing; run: make setup", python.display());
    let mut command = Command::new(python);
    command.arg(repository().join("tests/client").join(script)).envs(variables.iter().copied());
    let output = command.output().expect("Python runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(format!("{script} failed:\n{stdout}\n{stderr}")) }
}

/// The root of the checkout.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn default_python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).expect("a home folder");
    cache.join("souk/venv/bin/python")
}

/// The executable, with the data folder on a disk of its own if there is to be one.
fn executable(home: &Path, small_disk_mib: Option<usize>) -> Command {
    let souk = env!("CARGO_BIN_EXE_souk");
    let Some(mib) = small_disk_mib else { return Command::new(souk) };
    let data = home.join("data");
    std::fs::create_dir_all(&data).expect("the folder is ours");
    let script = format!("mount -t tmpfs -o size={mib}m none \"$0\" && exec {souk} \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]).arg(data);
    command
}

fn launch(
    home: &Path,
    small_disk_mib: Option<usize>,
    settings: &[(String, String)],
) -> (Child, String, Arc<Mutex<String>>) {
    let mut server = executable(home, small_disk_mib)
        .args(["serve", "--listen", "127.0.0.1:0", "--model", BASE])
        .arg("--data-dir")
        .arg(home.join("data"))
        .arg("--admin-key-file")
        .arg(home.join("admin.key"))
        // What an installation begins with takes a while to compile, and is looked at in a test of its own.
        .env("SOUK_REGISTRY__HOOKS__INSTALL", "false")
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the executable starts");
    let log = Arc::new(Mutex::new(String::new()));
    let mut url = None;
    let stderr = server.stderr.take().expect("standard error is piped");
    collect(stderr, Arc::clone(&log));
    let mut stdout = BufReader::new(server.stdout.take().expect("standard output is piped"));
    let mut line = String::new();
    while stdout.read_line(&mut line).expect("the output is text") > 0 {
        if let Some(rest) = line.trim().strip_prefix("listening on ") {
            url = Some(rest.to_owned());
            break;
        }
        log.lock().expect("the log").push_str(&line);
        line.clear();
    }
    let Some(url) = url else {
        server.wait().ok();
        panic!("the server did not start; is the model there? (make models)\n{}", log.lock().expect("the log"));
    };
    // The rest is read too, so that the server never blocks on a full pipe.
    collect(stdout, Arc::clone(&log));
    (server, url, log)
}

fn collect(source: impl std::io::Read + Send + 'static, log: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            let mut log = log.lock().expect("no thread panics with the log");
            log.push_str(&line);
            log.push('\n');
        }
    });
}
