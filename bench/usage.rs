//! Durable rows of usage a second, written in batches by one gateway and by four, on SQLite and PostgreSQL; and how long it
//! takes to sum up a month of a tenant that has a million of them. Prints Markdown tables.
//!
//! `cargo bench -p souk-bench --bench usage -- [--quick]`. PostgreSQL is measured where Debian's package is installed. Each row is
//! there once, and sums are those of the rows, which is looked at before anything is printed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Client;
use serde_json::{Value, json};
use souk_protocol::{PersonId, RequestRecord, TenantId};
use souk_registry::{Registry, RegistryConfig, SslMode, check_usage};
use souk_testkit::postgres::Postgres;
use souk_testkit::usage::request;
use tempfile::TempDir;

/// Requests in a batch: what a gateway sends at once where much is going on.
const BATCH: usize = 500;
/// 2026-11-01T00:00:00Z.
const MONTH: u64 = 1_793_491_200_000;
/// Milliseconds of the month.
const MONTH_MS: u64 = 30 * 86_400_000;
/// Keys of the tenant, of which each is a member's.
const NUM_KEYS: usize = 50;

/// A registry with one tenant.
struct Field {
    _folder: TempDir,
    config: RegistryConfig,
    registry: Registry,
    url: String,
    key: String,
    tenant: TenantId,
}

fn main() -> anyhow::Result<()> {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let num_rows = if is_quick { 20_000 } else { 1_000_000 };
    tokio::runtime::Runtime::new()?.block_on(measure(num_rows))
}

async fn measure(num_rows: usize) -> anyhow::Result<()> {
    let mut fields = vec![("SQLite", Field::start(None).await?)];
    // Removed with the process' database server.
    let database = Postgres::is_installed().then(|| Postgres::shared().database());
    if let Some(database) = &database {
        fields.push(("PostgreSQL", Field::start(Some(database.url())).await?));
    }
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    println!("| durable rows a second, in batches of {BATCH} | {} |", names.join(" | "));
    println!("| --- |{}", " ---: |".repeat(names.len()));
    for (what, num_writers, share) in [("one writer", 1, 2), ("four writers of one tenant", 4, 2)] {
        let mut rates = Vec::new();
        for (_, field) in &fields {
            rates.push(format!("{:.0}", field.write(num_rows / share, num_writers).await?));
        }
        println!("| {what} | {} |", rates.join(" | "));
    }
    println!("\n| milliseconds for a tenant with {num_rows} rows in a month | {} |", names.join(" | "));
    println!("| --- |{}", " ---: |".repeat(names.len()));
    for (what, query) in [
        ("the month", "bucket=month"),
        ("day by day and key by key", "bucket=day&group_by=key&limit=100"),
        ("hour by hour, from the rows", "bucket=hour&limit=100"),
    ] {
        let mut times = Vec::new();
        for (_, field) in &fields {
            times.push(format!("{:.0}", field.sum(query, num_rows).await?.as_secs_f64() * 1000.0));
        }
        println!("| {what} | {} |", times.join(" | "));
    }
    for (name, field) in &fields {
        let found = check_usage(&field.config, false).await?;
        ensure!(found.is_clean() && found.num_rows == num_rows as u64, "{name}: {found:?}");
    }
    Ok(())
}

impl Field {
    /// On PostgreSQL at `url`, else on SQLite.
    async fn start(url: Option<String>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut config = RegistryConfig::new(folder.path());
        config.limits.tokens_per_month = 1_000_000_000_000;
        if let Some(url) = url {
            config.settings.database.url = url.into();
            config.settings.database.sslmode = SslMode::Disable;
        }
        let registry = Registry::open_embedded(config.clone(), Vec::new()).await?;
        let admin = registry.bootstrap().await?.context("the first start makes a key")?.expose().to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/registry/v1", listener.local_addr()?);
        let (router, _) = souk_registry::router(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let post = async |path: &str, body: Value| -> anyhow::Result<Value> {
            let answer = Client::new().post(format!("{url}{path}")).bearer_auth(&admin).json(&body).send().await?;
            Ok(answer.error_for_status()?.json().await?)
        };
        post("/tenants", json!({ "name": "acme" })).await?;
        let key = post("/keys", json!({ "name": "k", "tenant": "acme", "scopes": ["usage:read"] })).await?;
        let key = key["secret"].as_str().context("a secret")?.to_owned();
        let tenant = registry.authenticate(&key).await?.tenant;
        Ok(Self { _folder: folder, config, registry, url, key, tenant })
    }

    /// Writes rows with some writers at once; answers rows a second.
    async fn write(&self, num_rows: usize, num_writers: usize) -> anyhow::Result<f64> {
        let began = Instant::now();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..num_writers {
            let (registry, tenant) = (self.registry.clone(), self.tenant.clone());
            writers.spawn(async move {
                for from in (writer * BATCH..num_rows).step_by(num_writers * BATCH) {
                    registry.write_usage(&records(&tenant, from)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended??;
        }
        Ok(num_rows as f64 / began.elapsed().as_secs_f64())
    }

    /// Sums up; the median of five times.
    async fn sum(&self, query: &str, num_rows: usize) -> anyhow::Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..5 {
            let url = format!("{}/usage?from=2026-11&to=2026-12&{query}", self.url);
            let began = Instant::now();
            let answer = Client::new().get(url).bearer_auth(&self.key).send().await?.error_for_status()?;
            let page: Value = answer.json().await?;
            times.push(began.elapsed());
            ensure!(page["totals"]["jobs"] == num_rows, "{page}");
        }
        times.sort_unstable();
        Ok(times[times.len() / 2])
    }
}

/// A batch of requests, spread over the month.
fn records(tenant: &TenantId, from: usize) -> Vec<RequestRecord> {
    let at_ms = |number: usize| MONTH + (number as u64).wrapping_mul(7_919_000) % MONTH_MS;
    let record = |number: usize| {
        let key = number % NUM_KEYS;
        let mut record = request(tenant, &format!("key_{key}"), at_ms(number), (100, 20));
        record.person = Some(PersonId::from_stored(format!("per_{key}")));
        record
    };
    (from..from + BATCH).map(record).collect()
}
