//! A registry in a process of its own, which can be killed, stopped and started again on the same data.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use souk_http::public_url::PublicUrl;
use souk_registry::Registry;

use crate::support::{LEASE, User, bases, config_in, in_haste, s3_at};

/// Where the parent says which folder is meant.
const FOLDER: &str = "SOUK_TEST_FOLDER";
/// Where it says how long leases are, in milliseconds, if not as long as those of all tests.
const LEASE_MS: &str = "SOUK_TEST_LEASE_MS";
/// Where it says which S3 server has the objects, if they are not in the folder.
const S3_ENDPOINT: &str = "SOUK_TEST_S3_ENDPOINT";
/// What the child says when it answers.
const READY: &str = "the registry answers on ";

#[tokio::test]
#[ignore = "a part of other tests, which start it as a process"]
async fn registry_process() {
    let mut config = config_in(Path::new(&std::env::var_os(FOLDER).unwrap()));
    in_haste(&mut config);
    let said = |variable: &str| std::env::var_os(variable).map(|text| text.into_string().unwrap());
    let lease = said(LEASE_MS).map(|ms| Duration::from_millis(ms.parse().unwrap()));
    config.settings.lease = lease.unwrap_or(LEASE);
    if let Some(endpoint) = said(S3_ENDPOINT) {
        config.objects = s3_at(&endpoint);
    }
    config.settings.self_service = true;
    // What delivers would pass crash points of its own.
    config.settings.webhooks.look_every = Duration::from_secs(3600);
    let registry = Registry::open_embedded(config, bases()).await.unwrap();
    let key = registry.bootstrap().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    registry.serves_at(PublicUrl::of_this_machine(address).unwrap());
    registry.takes_hooks(crate::components::intake());
    println!("{READY}{address} {}", key.as_ref().map_or("", |key| key.expose()));
    axum::serve(listener, souk_registry::router(registry).0).await.unwrap();
}

/// What a process is started with.
#[derive(Clone, Copy, Default)]
pub(crate) struct Start<'a> {
    /// If not that of all tests.
    pub(crate) lease: Option<Duration>,
    /// The file that tells it at which crash point to end.
    pub(crate) crash_file: Option<&'a Path>,
    /// The S3 server that has its objects.
    pub(crate) s3_endpoint: Option<&'a str>,
}

/// A registry that runs.
pub(crate) struct Process {
    pub(crate) child: Child,
    /// Kept open, so that what the child says later does not end it.
    _stdout: BufReader<ChildStdout>,
    pub(crate) base_url: String,
    /// The admin key, if this process made it.
    pub(crate) key: String,
}

impl Process {
    /// Starts one, of which nothing is known yet.
    pub(crate) fn begin(folder: &Path, start: Start) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["process::registry_process", "--exact", "--ignored", "--nocapture"]).env(FOLDER, folder);
        if let Some(lease) = start.lease {
            command.env(LEASE_MS, lease.as_millis().to_string());
        }
        if let Some(file) = start.crash_file {
            command.env("SOUK_CRASH_FILE", file);
        }
        if let Some(endpoint) = start.s3_endpoint {
            command.env(S3_ENDPOINT, endpoint);
        }
        command.stdout(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until the child answers.
    pub(crate) fn ready(mut child: Child) -> Self {
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = stdout.by_ref().lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains(READY)).expect("the child starts");
        let (_, said) = line.split_once(READY).unwrap();
        let (address, key) = said.split_once(' ').unwrap();
        let (base_url, key) = (format!("http://{address}/registry/v1"), key.trim().to_owned());
        Self { child, _stdout: stdout, base_url, key }
    }

    /// Starts one and waits until it answers, while what else this test serves goes on.
    pub(crate) async fn start(folder: &Path, start: Start<'_>) -> Self {
        let child = Self::begin(folder, start);
        tokio::task::spawn_blocking(move || Self::ready(child)).await.unwrap()
    }

    pub(crate) fn user(&self, key: &str) -> User {
        User::new(&self.base_url, key)
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until it has ended; answers its exit code, which one that was killed has not.
    pub(crate) async fn ended(mut self) -> Option<i32> {
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().code()).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
