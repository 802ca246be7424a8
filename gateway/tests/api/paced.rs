//! What the stages that count take at the rate of a busy installation, by their histograms: the gateway with limits in memory, its
//! journal on the disk and a node that answers at once. The engine is not there to take the processor away from them.

use std::time::Duration;

use serde_json::json;
use souk_protocol::Policy;
use souk_testkit::histogram::Buckets;
use tokio::time::{MissedTickBehavior, interval};
use tower::ServiceExt as _;

use crate::stack::{Around, KEY, Stack, request, says};

/// Requests a second, and for how many seconds.
const RATE: u32 = 500;
const SECONDS: u32 = 20;
/// The stages, whose times are added: the sum of two percentiles is no less than that of the sums.
const STAGES: [&str; 2] = ["reserve", "settle"];

// `cargo nextest run --release --workspace --run-ignored only -E 'test(at_500_requests_a_second)' --no-capture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures; in release, on a quiet machine"]
async fn what_reserving_and_settling_take_at_500_requests_a_second() {
    let rates = [Policy::RequestsPerMinute, Policy::InputTokensPerMinute, Policy::OutputTokensPerMinute];
    let budgets = [Policy::TokensPerDay, Policy::TokensPerMonth];
    let limits: Vec<_> = rates.into_iter().chain(budgets).map(|policy| (policy, 10_000_000_000)).collect();
    // A journal of the default's size: each segment that is begun waits for the disk.
    let around = Around { journal_bytes: 256 << 20, ..Around::limited(&limits) };
    let stack = Stack::within(around, says("hello world")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = stages(&stack).await;
    let mut beats = interval(Duration::from_secs(1) / RATE);
    beats.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asking = Vec::new();
    for _ in 0..RATE * SECONDS {
        beats.tick().await;
        let body = json!({ "model": "tiny", "prompt": vec![5; 100], "max_tokens": 20 }).to_string();
        let asked = stack.router.clone().oneshot(request("POST", "/v1/completions", KEY, body));
        asking.push(tokio::spawn(async move { asked.await.unwrap().status() }));
    }
    for one in asking {
        assert_eq!(one.await.unwrap(), 200);
    }
    let after = stages(&stack).await;
    println!("| microseconds at {RATE} requests a second for {SECONDS} s | median | 99 % |");
    println!("| --- | ---: | ---: |");
    let mut sums = [0.0; 2];
    for (stage, (before, after)) in STAGES.into_iter().zip(before.iter().zip(&after)) {
        let came = after.since(before);
        assert!(came.count() >= f64::from(RATE * SECONDS), "{stage}: {}", came.count());
        let quantiles = [0.5, 0.99].map(|share| came.quantile(share));
        println!("| {stage} | {:.0} | {:.0} |", quantiles[0], quantiles[1]);
        sums = [sums[0] + quantiles[0], sums[1] + quantiles[1]];
    }
    println!("| both, at most | {:.0} | {:.0} |", sums[0], sums[1]);
}

async fn stages(stack: &Stack) -> [Buckets; 2] {
    // The last ones are settled behind their answers.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = stack.get("/metrics").await.text;
    STAGES.map(|stage| Buckets::of(&text, "souk_gateway_stage_seconds", &format!("stage=\"{stage}\"")))
}
