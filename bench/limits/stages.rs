//! What reserving and settling take inside a server that answers: `souk serve` at the rate of a busy installation, by the
//! histograms that it ships.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::RATE;
use crate::server::{Place, Server, User};

const BASE: &str = "smollm2-135m-instruct";
/// The stages, whose times are added: the sum of two percentiles is no less than that of the sums.
const STAGES: [&str; 2] = ["reserve", "settle"];

/// Requests by the bound of their bucket, in seconds, each with those below it.
type Buckets = BTreeMap<u64, f64>;

/// Prints the table.
pub(crate) async fn measure(souk: &Path, time: Duration) -> anyhow::Result<()> {
    let limits = ["REQUESTS_PER_MINUTE", "INPUT_TOKENS_PER_MINUTE", "OUTPUT_TOKENS_PER_MINUTE", "TOKENS_PER_DAY"];
    let names: Vec<_> = limits.iter().map(|name| format!("SOUK_LIMITS__{name}")).collect();
    let settings: Vec<_> = names.iter().map(|name| (name.as_str(), "10000000000")).collect();
    let server = Server::start(souk, Place::Sqlite, &settings).await?;
    let user = server.tenant("acme").await?;
    asked(&user).await?;
    let before = stages(&user).await?;
    let num_asked = paced(&user, time).await?;
    let after = stages(&user).await?;
    println!("\n| microseconds inside, at {RATE} requests a second for {time:?} | median | 99 % |");
    println!("| --- | ---: | ---: |");
    let mut sums = [0.0; 2];
    for (stage, (before, after)) in STAGES.iter().zip(before.iter().zip(&after)) {
        let gone: Buckets =
            after.iter().map(|(bound, count)| (*bound, count - before.get(bound).unwrap_or(&0.0))).collect();
        let count = gone.values().next_back().copied().unwrap_or_default();
        ensure!(count >= f64::from(num_asked), "{stage}: {count} of {num_asked}");
        let shares = [0.5, 0.99].map(|share| quantile(&gone, share * count));
        println!("| {stage} | {:.0} | {:.0} |", shares[0], shares[1]);
        sums = [sums[0] + shares[0], sums[1] + shares[1]];
    }
    println!("| both, at most | {:.0} | {:.0} |", sums[0], sums[1]);
    Ok(())
}

async fn asked(user: &User) -> anyhow::Result<()> {
    let body = json!({ "model": BASE, "prompt": [1], "max_tokens": 1, "ignore_eos": true });
    user.post("/v1/completions", body).await.map(drop)
}

/// Asks at [`RATE`], whether or not those before were answered, until all are; how many.
async fn paced(user: &User, time: Duration) -> anyhow::Result<u32> {
    let mut beats = interval(Duration::from_secs(1) / RATE);
    beats.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let number = (time.as_secs_f64() * f64::from(RATE)) as u32;
    let mut asking = Vec::new();
    for _ in 0..number {
        beats.tick().await;
        let user = user.clone();
        asking.push(tokio::spawn(async move { asked(&user).await }));
    }
    for one in asking {
        one.await??;
    }
    Ok(number)
}

/// The buckets of each stage, bounds in nanoseconds.
async fn stages(user: &User) -> anyhow::Result<[Buckets; 2]> {
    // The last ones are settled behind their answers.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = user.http.get(format!("{}/metrics", user.url)).send().await?.text().await?;
    let mut found = [Buckets::new(), Buckets::new()];
    for line in text.lines().filter_map(|line| line.strip_prefix("souk_gateway_stage_seconds_bucket{")) {
        let (labels, count) = line.rsplit_once("} ").context("a value")?;
        let label = |name: &str| labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\""));
        let stage = label("stage").context("a stage")?.trim_end_matches('"');
        let bound = label("le").context("a bound")?.trim_end_matches('"');
        if let Some(at) = STAGES.iter().position(|name| *name == stage) {
            let bound = if bound == "+Inf" { u64::MAX } else { (bound.parse::<f64>()? * 1e9).round() as u64 };
            found[at].insert(bound, count.parse()?);
        }
    }
    ensure!(found.iter().all(|buckets| !buckets.is_empty()), "the server ships no such histograms");
    Ok(found)
}

/// Microseconds below which so many are, straight between the bounds of a bucket.
fn quantile(buckets: &Buckets, rank: f64) -> f64 {
    let (mut low, mut below) = (0, 0.0);
    for (&bound, &count) in buckets {
        if count >= rank {
            let share = if count > below { (rank - below) / (count - below) } else { 0.0 };
            return (low as f64 + share * (bound - low) as f64) / 1000.0;
        }
        (low, below) = (bound, count);
    }
    f64::INFINITY
}
