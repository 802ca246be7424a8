//! How soon a cancelled answer has given up its place and its blocks, and the next in line has begun.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use souk_engine::EngineConfig;
use souk_testkit::hash;

use crate::Bench;
use crate::driver::{Driver, Running};

const COUNTS: [usize; 2] = [16, 32];
const NUM_WAITING: usize = 8;
/// Short, so that an answer that gets a place has a token after one step.
const PROMPT_TOKENS: usize = 8;
/// More than come before the last one is cancelled.
const OUTPUT_TOKENS: u32 = 300;

pub(crate) fn measure(bench: &Bench) -> Value {
    let num_cancels = if bench.options.quick { 4 } else { 24 };
    println!(
        "A server's settings, {NUM_WAITING} more in line; the answer that has run longest is cancelled, {num_cancels} times.\n"
    );
    println!("| running answers | place and blocks free, ms: p50 | most | first token of the next, ms: p50 | most |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    let rows = COUNTS.map(|num_running| {
        let (mut free, mut next) = cancels(bench, num_running, num_cancels);
        free.sort_by(f64::total_cmp);
        next.sort_by(f64::total_cmp);
        let [free, next] = [free, next].map(|times| (times[times.len() / 2], times[times.len() - 1]));
        println!("| {num_running} | {:.1} | {:.1} | {:.1} | {:.1} |", free.0, free.1, next.0, next.1);
        json!({
            "running": num_running, "free_p50_ms": free.0, "free_most_ms": free.1,
            "next_p50_ms": next.0, "next_most_ms": next.1,
        })
    });
    println!();
    json!(rows)
}

/// Milliseconds to the end of the cancelled answer, and to the first token of the one that waited longest.
fn cancels(bench: &Bench, num_running: usize, num_cancels: u64) -> (Vec<f64>, Vec<f64>) {
    let config = EngineConfig { max_sequences: num_running, ..EngineConfig::default() };
    let driver = Driver::start(bench.runner(), config, &bench.model);
    let ask = |seed: u64| driver.submit(driver.job(driver.prompt(seed, PROMPT_TOKENS), OUTPUT_TOKENS), None);
    let mut seeds = 0..;
    let mut running: VecDeque<Running> = seeds.by_ref().take(num_running).map(ask).collect();
    let mut waiting: VecDeque<Running> = seeds.by_ref().take(NUM_WAITING).map(ask).collect();
    for answer in &running {
        first_token(answer);
    }
    let (mut free, mut next) = (Vec::new(), Vec::new());
    for seed in seeds.take(usize::try_from(num_cancels).expect("a small number")) {
        // Anywhere within a step.
        std::thread::sleep(Duration::from_micros(60_000 + hash(seed) % 50_000));
        let mut cancelled = running.pop_front().expect("as many as there were");
        let begun = waiting.pop_front().expect("as many as there were");
        waiting.push_back(ask(seed));
        let started = Instant::now();
        cancelled.handle.cancel();
        futures::executor::block_on(cancelled.handle.ended());
        free.push(started.elapsed().as_secs_f64() * 1e3);
        next.push(first_token(&begun).duration_since(started).as_secs_f64() * 1e3);
        running.push_back(begun);
    }
    (free, next)
}

fn first_token(answer: &Running) -> Instant {
    answer.tokens.recv_timeout(Duration::from_secs(60)).expect("an answer comes within a minute")
}
