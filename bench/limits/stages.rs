//! What reserving and settling take inside a server that answers: `souk serve` at the rate of a busy installation, by the
//! histograms that it ships.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use souk_testkit::histogram::Buckets;
use tokio::time::{MissedTickBehavior, interval};

use crate::RATE;
use crate::server::{Place, Server, User};

const BASE: &str = "smollm2-135m-instruct";
/// The stages, whose times are added: the sum of two percentiles is no less than that of the sums.
const STAGES: [&str; 2] = ["reserve", "settle"];

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
        let came = after.since(before);
        ensure!(came.count() >= f64::from(num_asked), "{stage}: {} of {num_asked}", came.count());
        let shares = [0.5, 0.99].map(|share| came.quantile(share));
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

async fn stages(user: &User) -> anyhow::Result<[Buckets; 2]> {
    // The last ones are settled behind their answers.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = user.http.get(format!("{}/metrics", user.url)).send().await?.text().await?;
    Ok(STAGES.map(|stage| Buckets::of(&text, "souk_gateway_stage_seconds", &format!("stage=\"{stage}\""))))
}
