//! What users get in process who do what `souk bench` has them do through HTTP: each asks one request after the other,
//! with a server's settings. `bench/page/in_process.py` sets the two against each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use souk_testkit::hash;

use crate::Bench;
use crate::driver::Driver;
use crate::random::AdapterSet;

const NUM_USERS: u64 = 16;
const PROMPT_TOKENS: usize = 128;
const OUTPUT_TOKENS: u32 = 64;

pub(crate) fn measure(bench: &Bench) -> Value {
    let (warm_up, measured) = if bench.options.quick { (1, 2) } else { (3, 10) };
    println!("| {NUM_USERS} users, {PROMPT_TOKENS} tokens of prompt, {OUTPUT_TOKENS} of answer | tokens/s |");
    println!("| --- | ---: |");
    let rows = [0, 1].map(|set: usize| {
        let set = &bench.sets[set];
        let rate = closed_loop(bench, set, Duration::from_secs(warm_up), Duration::from_secs(measured));
        println!("| adapters: {} | {rate:.0} |", set.label);
        json!({ "adapters": set.label, "tokens_per_second": rate })
    });
    println!();
    json!(rows)
}

/// Tokens per second that came in the measured time; each request takes one of the adapters at random.
fn closed_loop(bench: &Bench, set: &AdapterSet, warm_up: Duration, measured: Duration) -> f64 {
    let driver = bench.server_engine();
    let begin = Instant::now() + warm_up;
    let end = begin + measured;
    let next_seed = AtomicU64::new(0);
    let user = || {
        let mut num_tokens = 0;
        while Instant::now() < end {
            let seed = next_seed.fetch_add(1, Ordering::Relaxed);
            num_tokens += ask(&driver, set, seed).iter().filter(|at| (begin..end).contains(*at)).count();
        }
        num_tokens
    };
    let num_tokens: usize = std::thread::scope(|scope| {
        let users: Vec<_> = (0..NUM_USERS).map(|_| scope.spawn(user)).collect();
        users.into_iter().map(|user| user.join().expect("a user does not panic")).sum()
    });
    num_tokens as f64 / measured.as_secs_f64()
}

fn ask(driver: &Driver, set: &AdapterSet, seed: u64) -> Vec<Instant> {
    let count = set.adapters.len() as u64;
    let adapter = (count > 0).then(|| &set.adapters[usize::try_from(hash(seed) % count).expect("below a length")]);
    driver.submit(driver.job(driver.prompt(seed, PROMPT_TOKENS), OUTPUT_TOKENS), adapter).finish()
}
