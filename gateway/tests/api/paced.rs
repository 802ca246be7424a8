//! What the stages that count take at the rate of a busy installation, by their histograms: the gateway with limits in memory, its
//! journal on the disk and a node that answers at once. The engine is not there to take the processor away from them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use souk_protocol::Policy;
use tokio::time::{MissedTickBehavior, interval};
use tower::ServiceExt as _;

use crate::stack::{Around, KEY, Stack, request, says};

/// Requests a second, and for how many seconds.
const RATE: u32 = 500;
const SECONDS: u32 = 20;
/// The stages, whose times are added: the sum of two percentiles is no less than that of the sums.
const STAGES: [&str; 2] = ["reserve", "settle"];

/// Requests by the bound of their bucket, in nanoseconds, each with those below it.
type Buckets = BTreeMap<u64, f64>;

// `cargo nextest run --release --workspace --run-ignored only -E 'test(at_500_requests_a_second)' --no-capture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures; in release, on a quiet machine"]
async fn what_reserving_and_settling_take_at_500_requests_a_second() {
    let rates = [Policy::RequestsPerMinute, Policy::InputTokensPerMinute, Policy::OutputTokensPerMinute];
    let budgets = [Policy::TokensPerDay, Policy::TokensPerMonth];
    let limits: Vec<_> = rates.into_iter().chain(budgets).map(|policy| (policy, 10_000_000_000)).collect();
    let stack = Stack::within(Around::limited(&limits), says("hello world")).await;
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
    for (number, stage) in STAGES.into_iter().enumerate() {
        let (before, after) = (&before[number], &after[number]);
        let gone: Buckets =
            after.iter().map(|(bound, count)| (*bound, count - before.get(bound).unwrap_or(&0.0))).collect();
        let count = *gone.values().next_back().unwrap();
        assert!(count >= f64::from(RATE * SECONDS), "{stage}: {count}");
        let quantiles = [0.5, 0.99].map(|share| quantile(&gone, share * count));
        println!("| {stage} | {:.0} | {:.0} |", quantiles[0], quantiles[1]);
        sums = [sums[0] + quantiles[0], sums[1] + quantiles[1]];
    }
    println!("| both, at most | {:.0} | {:.0} |", sums[0], sums[1]);
}

async fn stages(stack: &Stack) -> [Buckets; 2] {
    // The last ones are settled behind their answers.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = stack.get("/metrics").await.text;
    let mut found = [Buckets::new(), Buckets::new()];
    for line in text.lines().filter_map(|line| line.strip_prefix("souk_gateway_stage_seconds_bucket{")) {
        let (labels, count) = line.rsplit_once("} ").unwrap();
        let label =
            |name: &str| labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")).unwrap();
        let (stage, bound) = (label("stage").trim_end_matches('"'), label("le").trim_end_matches('"'));
        if let Some(at) = STAGES.iter().position(|name| *name == stage) {
            let bound = bound
                .parse::<f64>()
                .map_or(u64::MAX, |bound| if bound.is_finite() { (bound * 1e9).round() as u64 } else { u64::MAX });
            found[at].insert(bound, count.parse().unwrap());
        }
    }
    found
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
