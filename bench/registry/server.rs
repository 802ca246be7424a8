//! The server that is measured, with its database and its objects.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use reqwest::{Client, Response};
use sea_orm::{Database, DatabaseConnection};
use serde_json::{Value, json};
use souk_testkit::postgres::{Postgres, TestDatabase};
use souk_testkit_s3::{ACCESS_KEY_ID, BUCKET, S3Server, SECRET_ACCESS_KEY};
use tempfile::TempDir;

/// Where rows and objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file and a folder.
    Sqlite,
    /// A server, and a folder.
    Postgres,
    /// A file and a bucket, whose server is this process.
    Bucket,
}

impl Place {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite, folder",
            Self::Postgres => "PostgreSQL, folder",
            Self::Bucket => "SQLite, bucket",
        }
    }

    /// Whether what it needs is installed.
    pub(crate) fn is_there(self) -> bool {
        self != Self::Postgres || Postgres::is_installed()
    }
}

/// A running `souk serve`, killed when dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
    admin_key: String,
    folder: TempDir,
    database: Option<TestDatabase>,
    _bucket: Option<S3Server>,
}

impl Server {
    /// Starts one, with further settings as variables.
    pub(crate) async fn start(souk: &Path, place: Place, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let key_file = folder.path().join("admin-key");
        let mut command = Command::new(souk);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
        command.arg("--admin-key-file").arg(&key_file).env("SOUK_LOG__FILTER", "error");
        let database = (place == Place::Postgres).then(|| Postgres::shared().database());
        if let Some(database) = &database {
            command
                .env("SOUK_REGISTRY__DATABASE__URL", database.url())
                .env("SOUK_REGISTRY__DATABASE__SSLMODE", "disable");
        }
        let bucket = if place == Place::Bucket { Some(S3Server::start().await) } else { None };
        if let Some(bucket) = &bucket {
            command.env("SOUK_OBJECTS__URL", format!("s3://{BUCKET}/bench"));
            command.env("SOUK_OBJECTS__ENDPOINT", bucket.endpoint());
            command.env("SOUK_OBJECTS__ACCESS_KEY_ID", ACCESS_KEY_ID);
            command.env("SOUK_OBJECTS__SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        }
        let mut child = command.envs(settings.iter().copied()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        // Elsewhere: the bucket's server answers on this thread.
        let url = tokio::task::spawn_blocking(move || {
            let mut lines = BufReader::new(stdout).lines();
            let url = loop {
                let line = lines.next().context("the server ended")??;
                if let Some(at) = line.find("http://") {
                    break line[at..].trim().to_owned();
                }
            };
            // What it says later is read away, so that it never waits for a reader.
            std::thread::spawn(move || lines.for_each(drop));
            anyhow::Ok(url)
        });
        let url = url.await??;
        let admin_key = std::fs::read_to_string(&key_file)?.trim().to_owned();
        Ok(Self { child, url, admin_key, folder, database, _bucket: bucket })
    }

    /// The key of a new tenant.
    pub(crate) async fn tenant(&self, name: &str) -> anyhow::Result<User> {
        let admin = User { http: Client::new(), url: self.url.clone(), key: self.admin_key.clone() };
        admin.post("/registry/v1/tenants", json!({ "name": name })).await?;
        let scopes = ["inference", "adapters:read", "adapters:write"];
        let made =
            admin.post("/registry/v1/keys", json!({ "tenant": name, "name": "bench", "scopes": scopes })).await?;
        Ok(User { key: made["secret"].as_str().context("a key")?.to_owned(), ..admin })
    }

    /// Its database, past it.
    pub(crate) async fn database(&self) -> anyhow::Result<DatabaseConnection> {
        Ok(match &self.database {
            Some(database) => Database::connect(database.url()).await?,
            None => souk_registry::open_sqlite(&self.folder.path().join("registry.sqlite")).await?,
        })
    }

    /// Lets its peak of memory begin anew, and answers what it has now, in MiB.
    pub(crate) fn forget_the_peak(&self) -> anyhow::Result<u64> {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?;
        self.mebibytes("VmRSS:")
    }

    /// The most that it had since, in MiB.
    pub(crate) fn peak(&self) -> anyhow::Result<u64> {
        self.mebibytes("VmHWM:")
    }

    fn mebibytes(&self, field: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("Linux reports it")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended is what was wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A client with a key.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) http: Client,
    pub(crate) url: String,
    pub(crate) key: String,
}

impl User {
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Response> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        Ok(request.send().await?.error_for_status()?)
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let answer = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.key).json(&body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }
}
