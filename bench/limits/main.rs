//! What limits cost a request: reserve and settle a second, in memory and through one Redis, and how long the two take together
//! at the rate of a busy installation. What was settled is counted in batches meanwhile, as its rows are written.
//! And what the two stages take inside a server that answers, if one is named. Prints Markdown tables.
//!
//! `cargo bench -p souk-bench --bench limits -- [--souk PATH] [--quick]`. Redis is measured where Debian's package is installed; the
//! server needs the model in the cache (`make models`).

#![expect(clippy::print_stdout, reason = "a benchmark prints its tables")]

#[path = "../registry/server.rs"]
#[allow(dead_code, reason = "a part of it is used")]
mod server;
mod stages;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use souk_limits::port::LEASE;
use souk_limits::{Amounts, Ask, Limits, MemoryLimits, RedisLimits, ReserveError};
use souk_protocol::{
    KeyId, LevelLimits, Limit, LimitTree, Mode, PersonId, Policy, RequestId, Subject, TeamId, TenantId, Total,
};
use souk_redis::RedisSettings;
use souk_testkit::redis::Redis;
use tokio::time::{Instant, interval, sleep};

/// Tenants, each with one caller whose tree has four levels.
const NUM_TENANTS: usize = 100;
/// Requests that are counted at once.
const BATCH: usize = 100;
/// 2026-11-29T12:00:00Z.
const AT_MS: u64 = 1_795_953_600_000;
/// Requests a second at which the two steps are timed.
const RATE: u32 = 500;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let time = Duration::from_millis(if is_quick { 300 } else { 5000 });
    let souk = arguments.iter().position(|argument| argument == "--souk").and_then(|at| arguments.get(at + 1));
    tokio::runtime::Runtime::new()?.block_on(async {
        measure(time).await?;
        match souk {
            Some(souk) => stages::measure(Path::new(souk), time * 4).await,
            None => Ok(()),
        }
    })
}

async fn measure(time: Duration) -> anyhow::Result<()> {
    let server = Redis::is_installed().then(Redis::that_forgets);
    let mut stores: Vec<(&str, Arc<dyn Limits>)> = vec![("in memory", Arc::new(MemoryLimits::new(1 << 20)))];
    if let Some(server) = &server {
        stores.push(("one Redis", through(server).await?));
    }
    let trees: Vec<_> = (0..NUM_TENANTS).map(tree).collect();
    for (_, limits) in &stores {
        open(limits.as_ref(), &trees).await?;
    }

    // First, since leases of what came at full speed end only a while later.
    println!("| milliseconds of both together at {RATE} requests a second | median | 99 % | longest |");
    println!("| --- | ---: | ---: | ---: |");
    for (name, limits) in &stores {
        let mut times = paced(limits, &trees, time).await?;
        times.sort_unstable();
        let of = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("| {name} | {:.3} | {:.3} | {:.3} |", of(0.5), of(0.99), of(1.0));
    }

    println!(
        "\n| reserve + settle, pairs a second, {NUM_TENANTS} tenants with four levels each | 1 at a time | 64 at a time |"
    );
    println!("| --- | ---: | ---: |");
    for (name, limits) in &stores {
        let alone = rate(limits, &trees, 1, time).await?;
        let together = rate(limits, &trees, 64, time).await?;
        println!("| {name} | {alone:.0} | {together:.0} |");
    }
    Ok(())
}

/// A gateway's way to a server whose budgets are open.
async fn through(server: &Redis) -> anyhow::Result<Arc<dyn Limits>> {
    let settings = RedisSettings {
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        ..RedisSettings::at(server.url())
    };
    let limits = RedisLimits::new(&settings, 1 << 20)?;
    limits.connect().await?;
    println!("A server that is new keeps its budgets shut for {LEASE:?}.\n");
    sleep(LEASE).await;
    Ok(Arc::new(limits))
}

/// Rates and budgets of a tenant, of its team, of a member and of a key.
fn tree(number: usize) -> Arc<LimitTree> {
    let limit = |value| Limit { value, soft: None, mode: Mode::Enforce };
    let tenant = TenantId::from_stored(format!("ten_{number:032}"));
    let rates = [Policy::RequestsPerMinute, Policy::InputTokensPerMinute, Policy::OutputTokensPerMinute];
    let rates = rates.map(|policy| (policy, limit(10_000_000_000)));
    let budgets = [Policy::TokensPerDay, Policy::TokensPerMonth].map(|policy| (policy, limit(1_000_000_000_000)));
    let of_tenant: BTreeMap<_, _> = rates.into_iter().chain(budgets).collect();
    let month: BTreeMap<_, _> = [budgets[1]].into();
    let person = PersonId::from_stored(format!("per_{number:032}"));
    let levels = [
        (Subject::Tenant(tenant.clone()), of_tenant),
        (Subject::Team(TeamId::from_stored(format!("team_{number:032}"))), month.clone()),
        (Subject::Member(tenant, person), month),
        (Subject::Key(KeyId::from_stored(format!("key_{number:032}"))), rates.into_iter().take(1).collect()),
    ];
    let levels = levels.into_iter().map(|(subject, limits)| LevelLimits { subject, limits }).collect();
    Arc::new(LimitTree { levels, gate_weight: 1, output_ceiling: None, keeps_answers: false, hooks: None })
}

fn ask(tree: &Arc<LimitTree>) -> Ask {
    let tenant = match &tree.levels[0].subject {
        Subject::Tenant(tenant) => tenant.clone(),
        _ => unreachable!("the tenant's level is the first"),
    };
    let amounts = Amounts { requests: 1, input_tokens: 900, output_tokens: 256, training_tokens: 0 };
    Ask { request: RequestId::new(), tenant, tree: Arc::clone(tree), amounts, at_ms: AT_MS }
}

/// Tells all totals, and waits until the buckets have something.
async fn open(limits: &dyn Limits, trees: &[Arc<LimitTree>]) -> anyhow::Result<()> {
    for tree in trees {
        let ask = ask(tree);
        let Err(ReserveError::TotalsUnknown(keys)) = limits.reserve(&ask).await else {
            anyhow::bail!("nobody has told the totals");
        };
        let totals: Vec<_> = keys.into_iter().map(|key| Total { key, amount: 0, version: 0 }).collect();
        limits.count(&ask.tenant, &totals, &[]).await?;
    }
    sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// One request's two steps.
async fn pair(limits: &dyn Limits, ask: &Ask) -> anyhow::Result<()> {
    limits.reserve(ask).await.context("reserve")?;
    let used = Amounts { output_tokens: 100, ..ask.amounts };
    limits.settle(&ask.tenant, &ask.request, used).await.context("settle")
}

/// Counts what was settled of one tenant.
async fn count(limits: &dyn Limits, ask: &Ask, written: &mut Vec<RequestId>) -> anyhow::Result<()> {
    limits.count(&ask.tenant, &[], &std::mem::take(written)).await.context("count")
}

/// Pairs a second of so many tasks, each with one request after the other.
async fn rate(
    limits: &Arc<dyn Limits>,
    trees: &[Arc<LimitTree>],
    num_tasks: usize,
    time: Duration,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let tasks: Vec<_> = (0..num_tasks)
        .map(|number| {
            let (limits, tree) = (Arc::clone(limits), Arc::clone(&trees[number % trees.len()]));
            tokio::spawn(async move {
                let (mut num_pairs, mut written) = (0_u32, Vec::new());
                while began.elapsed() < time {
                    let ask = ask(&tree);
                    pair(limits.as_ref(), &ask).await?;
                    num_pairs += 1;
                    written.push(ask.request.clone());
                    if written.len() == BATCH {
                        count(limits.as_ref(), &ask, &mut written).await?;
                    }
                }
                count(limits.as_ref(), &ask(&tree), &mut written).await?;
                anyhow::Ok(num_pairs)
            })
        })
        .collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await??;
    }
    Ok(f64::from(sum) / began.elapsed().as_secs_f64())
}

/// How long each pair took at [`RATE`], whether or not the one before had ended.
async fn paced(limits: &Arc<dyn Limits>, trees: &[Arc<LimitTree>], time: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut beats = interval(Duration::from_secs(1) / RATE);
    let (began, mut calls) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        beats.tick().await;
        let (limits, ask) = (Arc::clone(limits), ask(&trees[calls.len() % trees.len()]));
        calls.push(tokio::spawn(async move {
            let began = std::time::Instant::now();
            pair(limits.as_ref(), &ask).await?;
            let took = began.elapsed();
            count(limits.as_ref(), &ask, &mut vec![ask.request.clone()]).await?;
            anyhow::Ok(took)
        }));
    }
    let mut times = Vec::new();
    for call in calls {
        times.push(call.await??);
    }
    Ok(times)
}
