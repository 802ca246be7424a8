//! What lists and lookups of models take with 100,000 public adapters registered, what publishing takes, and how much memory
//! a large upload: `souk serve` on a database that is filled in bulk, asked over HTTP. On SQLite and, where it is
//! installed, PostgreSQL; in a folder and in a bucket. Prints Markdown tables.
//!
//! `cargo bench -p souk-bench --bench registry -- --souk PATH [--quick] [--only lists|publish|memory]`. The model must be in
//! the cache (`make models`).

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

mod publish;
mod server;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DatabaseConnection};
use serde_json::Value;
use server::{Place, Server, User};

/// Adapters, a thousand for each tenant.
const NUM_ADAPTERS: u32 = 100_000;
/// Those that the list has; `gateway.listed_models`.
const NUM_LISTED: usize = 1000;
const NUM_CLIENTS: usize = 16;
const BASE: &str = "smollm2-135m-instruct";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1).cloned()
    };
    let souk = PathBuf::from(after("--souk").context("name the executable: --souk PATH")?);
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let only = after("--only");
    let is_wanted = |what: &str| only.as_deref().is_none_or(|only| only == what);
    let runtime = tokio::runtime::Runtime::new()?;
    if is_wanted("lists") {
        for place in [Place::Sqlite, Place::Postgres].into_iter().filter(|place| place.is_there()) {
            runtime.block_on(lists(&souk, place, if is_quick { 48 } else { 1600 }))?;
        }
    }
    if is_wanted("publish") {
        runtime.block_on(publish::times(&souk, if is_quick { 3 } else { 20 }))?;
    }
    if is_wanted("memory") {
        runtime.block_on(publish::memory(&souk, if is_quick { 64 << 20 } else { 1 << 30 }))?;
    }
    Ok(())
}

async fn lists(souk: &Path, place: Place, num_requests: usize) -> anyhow::Result<()> {
    let server = Server::start(souk, place, &[]).await?;
    let acme = server.tenant("acme").await?;
    let base: Value = acme.get(&format!("/v1/models/{BASE}")).await?.json().await?;
    let db = server.database().await?;
    fill(&db, base["digest"].as_str().context("a digest")?).await?;
    db.close().await?;

    let list = acme.get("/v1/models").await?;
    ensure!(list.headers().contains_key("link"), "the list says where the others are");
    let list: Value = list.json().await?;
    let num_listed = list["data"].as_array().map_or(0, Vec::len);
    ensure!(num_listed == 1 + NUM_LISTED, "{num_listed} models are listed");
    let on = place.as_str();
    println!(
        "\n| milliseconds, with {NUM_ADAPTERS} public adapters, {on} | alone, p50 | p99 | {NUM_CLIENTS} clients, p50 | p99 |"
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
    // A number with zeros before it, as either database writes it.
    let padded = |number: &str, width: usize| match db.get_database_backend() {
        DatabaseBackend::Sqlite => format!("printf('%0{width}d', {number})"),
        _ => format!("lpad(({number})::text, {width}, '0')"),
    };
    let (tenant, adapter, digest) = (padded("i / 1000", 3), padded("i", 6), padded("i", 64));
    let tenant_alone = padded("i", 3);
    for statement in [
        format!(
            "INSERT INTO tenants (id, name, created_at_ms) {tenants} SELECT 'ten_' || i, 'crowd-' || {tenant_alone}, 0 FROM n"
        ),
        format!(
            "INSERT INTO adapters
             (id, tenant_id, owner, name, visibility, description, created_at_ms, updated_at_ms, listed_as) {adapters}
             SELECT 'adp_' || i, 'ten_' || (i / 1000), 'crowd-' || {tenant}, 'adapter-' || {adapter}, 'public',
             'One of a crowd of adapters, number ' || i, 0, 0, 'public' FROM n"
        ),
        format!(
            "INSERT INTO versions
             (id, adapter_id, version, state, digest, base_digest, rank, created_at_ms, state_changed_at_ms) {adapters}
             SELECT 'ver_' || i, 'adp_' || i, '1.0.0', 'ready', 'sha256:' || {digest}, '{base_digest}', 8, 0, 0 FROM n"
        ),
    ] {
        db.execute_unprepared(&statement).await?;
    }
    if db.get_database_backend() == DatabaseBackend::Postgres {
        // What its own process does a minute later by itself.
        db.execute_unprepared("ANALYZE").await?;
    }
    Ok(())
}
