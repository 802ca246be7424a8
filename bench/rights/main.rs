//! What it takes to know who calls, what a name means and what binds the caller, on SQLite and PostgreSQL: asked of the database each time, kept for
//! a gateway in the same process, and through a gateway apart; and how soon a revoked key is refused by two gateways apart.
//! Prints Markdown tables.
//!
//! `cargo bench -p souk-bench --bench rights -- [--quick]`. PostgreSQL is measured where Debian's package is installed.

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]

mod field;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use souk_gateway::Catalog;
use souk_registry::WarmCatalog;
use souk_testkit::postgres::Postgres;

use field::{Caller, Field};

/// Callers, each with a key and an adapter of its own.
const NUM_CALLERS: usize = 100;

fn main() -> anyhow::Result<()> {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let (time, rounds) = if is_quick { (Duration::from_millis(300), 3) } else { (Duration::from_secs(5), 40) };
    tokio::runtime::Runtime::new()?.block_on(measure(time, rounds))
}

async fn measure(time: Duration, rounds: usize) -> anyhow::Result<()> {
    let mut stores = vec![("SQLite", Field::start(None, NUM_CALLERS).await?)];
    // Removed with the process' database server.
    let database = Postgres::is_installed().then(|| Postgres::shared().database());
    if let Some(database) = &database {
        stores.push(("PostgreSQL", Field::start(Some(database.url()), NUM_CALLERS).await?));
    }
    println!("| authenticated, resolved and told its limits, calls a second of one task | {} |", names(&stores));
    println!("| --- |{}", " ---: |".repeat(stores.len()));
    for (what, kept) in [("asked of the database each time", false), ("kept, in the registry's process", true)] {
        let mut rates = Vec::new();
        for (_, field) in &stores {
            let warm = WarmCatalog::new(field.registry().clone(), Duration::ZERO);
            rates.push(match kept {
                true => rate(field, time, async |caller: &Caller| in_process(&warm, caller).await).await?,
                false => rate(field, time, async |caller: &Caller| asked(field, caller).await).await?,
            });
        }
        row(what, &rates);
    }
    let mut rates = Vec::new();
    for (_, field) in &stores {
        let apart = field.gateway().await?;
        rates.push(rate(field, time, async |caller: &Caller| over_http(&apart, caller).await).await?);
    }
    row("kept, in a gateway apart", &rates);

    println!(
        "\n| milliseconds from the answer to `DELETE /keys/{{id}}` to the refusal by both of two gateways | median | longest |"
    );
    println!("| --- | ---: | ---: |");
    for (name, field) in &stores {
        for (what, by_token) in [("a key", false), ("a token of it", true)] {
            let mut times = revocations(field, rounds, by_token).await?;
            times.sort_unstable();
            let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
            let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
            ensure!(longest < Duration::from_secs(1), "a revoked key was let in for {longest:?}");
            println!("| {what}, {name} | {:.0} | {:.0} |", milliseconds(median), milliseconds(longest));
        }
    }
    Ok(())
}

fn names(stores: &[(&str, Field)]) -> String {
    stores.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | ")
}

fn row(what: &str, rates: &[f64]) {
    let cells: String = rates.iter().map(|rate| format!(" {rate:.0} |")).collect();
    println!("| {what} |{cells}");
}

/// Calls a second, each for another caller than the one before.
async fn rate(field: &Field, time: Duration, call: impl AsyncFn(&Caller) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    for caller in &field.callers {
        call(caller).await?;
    }
    let (began, mut num_calls) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        for caller in &field.callers {
            call(caller).await?;
            num_calls += 1;
        }
    }
    Ok(f64::from(num_calls) / began.elapsed().as_secs_f64())
}

async fn asked(field: &Field, caller: &Caller) -> anyhow::Result<()> {
    let principal = field.registry().authenticate(&caller.key).await?;
    field.registry().resolve(&principal, &caller.adapter).await?;
    ensure!(field.registry().limits_of_caller(&principal).await?.is_some(), "a caller is gone");
    Ok(())
}

async fn in_process(warm: &WarmCatalog, caller: &Caller) -> anyhow::Result<()> {
    let principal = warm.authenticate(&caller.key).await?;
    warm.resolve(&principal, &caller.adapter).await?;
    ensure!(warm.limits(&principal).await.map_err(anyhow::Error::from_boxed)?.is_some(), "a caller is gone");
    Ok(())
}

async fn over_http(catalog: &Arc<dyn Catalog>, caller: &Caller) -> anyhow::Result<()> {
    let principal = catalog.authenticate(&caller.key).await?;
    catalog.resolve(&principal, &caller.adapter).await?;
    catalog.limits(&principal).await?;
    Ok(())
}

/// How long each of some keys was let in after it was revoked at the first registry.
async fn revocations(field: &Field, rounds: usize, by_token: bool) -> anyhow::Result<Vec<Duration>> {
    let gateways = [field.gateway().await?, field.gateway().await?];
    let mut times = Vec::new();
    for round in 0..rounds {
        let (id, key) = field.new_key().await?;
        let presented = if by_token { field.token(&key).await? } else { key };
        for gateway in &gateways {
            gateway.authenticate(&presented).await?;
        }
        // At another moment of the second in which it is kept each time.
        tokio::time::sleep(Duration::from_millis(37 * (round as u64 % 27))).await;
        field.revoke(&id).await?;
        let revoked = Instant::now();
        for gateway in &gateways {
            while gateway.authenticate(&presented).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        times.push(revoked.elapsed());
    }
    Ok(times)
}
