//! What lists and lookups of models take with 100,000 public adapters registered: `souk serve` on a folder whose database is
//! filled in bulk, asked over HTTP by one client and by sixteen. Prints a Markdown table.
//!
//! `cargo bench -p souk-bench --bench registry -- --souk PATH [--quick]`. The model must be in the cache (`make models`).

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::{Client, Response};
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use serde_json::{Value, json};

/// Adapters, a thousand for each tenant.
const NUM_ADAPTERS: u32 = 100_000;
/// Those that the list has; `gateway.listed_models`.
const NUM_LISTED: usize = 1000;
const NUM_CLIENTS: usize = 16;
const BASE: &str = "smollm2-135m-instruct";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let souk = arguments.iter().position(|argument| argument == "--souk").and_then(|at| arguments.get(at + 1));
    let souk = PathBuf::from(souk.context("name the executable: --souk PATH")?);
    let num_requests = if arguments.iter().any(|argument| argument == "--quick") { 48 } else { 1600 };
    tokio::runtime::Runtime::new()?.block_on(measure(&souk, num_requests))
}

async fn measure(souk: &Path, num_requests: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Server::start(souk, folder.path())?;
    let admin = User { http: Client::new(), url: server.url.clone(), key: server.admin_key.clone() };
    admin.post("/registry/v1/tenants", json!({ "name": "acme" })).await?;
    let scopes = ["inference", "adapters:read"];
    let made = admin.post("/registry/v1/keys", json!({ "tenant": "acme", "name": "bench", "scopes": scopes })).await?;
    let key = made["secret"].as_str().context("a key")?.to_owned();
    let acme = User { key, ..admin };
    let base: Value = acme.get(&format!("/v1/models/{BASE}")).await?.json().await?;
    let db = souk_registry::open_sqlite(&folder.path().join("registry.sqlite")).await?;
    fill(&db, base["digest"].as_str().context("a digest")?).await?;
    db.close().await?;

    let list = acme.get("/v1/models").await?;
    ensure!(list.headers().contains_key("link"), "the list says where the others are");
    let list: Value = list.json().await?;
    let num_listed = list["data"].as_array().map_or(0, Vec::len);
    ensure!(num_listed == 1 + NUM_LISTED, "{num_listed} models are listed");
    println!(
        "| milliseconds, with {NUM_ADAPTERS} public adapters | alone, p50 | p99 | {NUM_CLIENTS} clients, p50 | p99 |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (what, path) in [
        ("`/v1/models`", "/v1/models"),
        ("`/v1/models/{id}`", "/v1/models/crowd-050/adapter-050500"),
        (
            "a page of the registry",
            "/registry/v1/adapters?visibility=public&limit=100&cursor=Y3Jvd2QtMDUwL2FkYXB0ZXItMDUwNTAw",
        ),
        ("a search that finds one", "/registry/v1/adapters?search=adapter-050500"),
        ("a search that finds nothing", "/registry/v1/adapters?search=nothing-like-it"),
    ] {
        let alone = times(&acme, path, 1, (num_requests / 8).max(1)).await?;
        let beside = times(&acme, path, NUM_CLIENTS, num_requests / NUM_CLIENTS).await?;
        let [a, b, c, d] = [at(&alone, 50), at(&alone, 99), at(&beside, 50), at(&beside, 99)];
        println!("| {what} | {a:.1} | {b:.1} | {c:.1} | {d:.1} |");
    }
    Ok(())
}

/// How long each of so many requests of so many clients took, sorted.
async fn times(user: &User, path: &str, num_clients: usize, num_each: usize) -> anyhow::Result<Vec<Duration>> {
    let clients: Vec<_> = (0..num_clients)
        .map(|_| {
            let (user, path) = (user.clone(), path.to_owned());
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in 0..num_each {
                    let began = Instant::now();
                    user.get(&path).await?.bytes().await?;
                    times.push(began.elapsed());
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await??);
    }
    all.sort_unstable();
    Ok(all)
}

/// Milliseconds below which so many percent are.
fn at(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len()) - 1;
    sorted[place].as_secs_f64() * 1e3
}

/// Registers the adapters, each with a version, as rows.
async fn fill(db: &DatabaseConnection, base_digest: &str) -> anyhow::Result<()> {
    let numbers =
        |count: u32| format!("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {} - 1)", count);
    let (tenants, adapters) = (numbers(NUM_ADAPTERS / 1000), numbers(NUM_ADAPTERS));
    db.execute_unprepared(&format!(
        "BEGIN IMMEDIATE;
         INSERT INTO tenants (id, name, created_at_ms) {tenants}
         SELECT 'ten_' || i, printf('crowd-%03d', i), 0 FROM n;
         INSERT INTO adapters
         (id, tenant_id, owner, name, visibility, description, created_at_ms, updated_at_ms, listed_as) {adapters}
         SELECT 'adp_' || i, 'ten_' || (i / 1000), printf('crowd-%03d', i / 1000), printf('adapter-%06d', i), 'public',
         'One of a crowd of adapters, number ' || i, 0, 0, 'public' FROM n;
         INSERT INTO versions
         (id, adapter_id, version, state, digest, base_digest, rank, created_at_ms, state_changed_at_ms) {adapters}
         SELECT 'ver_' || i, 'adp_' || i, '1.0.0', 'ready', printf('sha256:%064x', i), '{base_digest}', 8, 0, 0 FROM n;
         COMMIT"
    ))
    .await?;
    Ok(())
}

/// A running `souk serve`, killed when dropped.
struct Server {
    child: Child,
    url: String,
    admin_key: String,
}

impl Server {
    fn start(souk: &Path, folder: &Path) -> anyhow::Result<Self> {
        let key_file = folder.join("admin-key");
        let mut child = Command::new(souk)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder)
            .arg("--admin-key-file")
            .arg(&key_file)
            .env("SOUK_LOG__FILTER", "error")
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut server = Self { child, url: String::new(), admin_key: String::new() };
        let mut lines = BufReader::new(stdout).lines();
        server.url = loop {
            let line = lines.next().context("the server ended")??;
            if let Some(at) = line.find("http://") {
                break line[at..].trim().to_owned();
            }
        };
        // What it says later is read away, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        server.admin_key = std::fs::read_to_string(&key_file)?.trim().to_owned();
        Ok(server)
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
struct User {
    http: Client,
    url: String,
    key: String,
}

impl User {
    async fn get(&self, path: &str) -> anyhow::Result<Response> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        Ok(request.send().await?.error_for_status()?)
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.key).json(&body);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }
}
