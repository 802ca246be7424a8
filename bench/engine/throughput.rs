//! Tokens per second: prefill, and decode at several batch sizes.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use souk_protocol::SamplingParams;
use souk_runner::DeviceAdapter;

use crate::driver::Driver;
use crate::random::AdapterSet;
use crate::{Bench, median};

pub(crate) const PREFILL_TOKENS: usize = 512;
const DECODE_BATCHES: [usize; 4] = [1, 4, 16, 32];
const NUM_FIGURES: usize = 1 + DECODE_BATCHES.len();
const PROMPT_TOKENS: usize = 32;
/// Contexts at which one sequence decodes alone.
const LONG_CONTEXTS: [usize; 2] = [2048, 7900];

/// The base and every set of adapters.
pub(crate) fn all(bench: &Bench) -> Value {
    throughput(bench, &bench.sets)
}

/// The base alone.
pub(crate) fn base(bench: &Bench) -> Value {
    throughput(bench, &bench.sets[..1])
}

/// Sixteen sequences of the base.
pub(crate) fn decode_16(bench: &Bench) -> Value {
    let driver = bench.plain_engine();
    let rates = (0..bench.rounds()).map(|_| decode(&driver, 16, &[], decode_tokens(bench)));
    let rate = median(rates.collect());
    println!("Decode of 16 sequences: {rate:.0} tokens per second, the median of the rounds.\n");
    json!(rate)
}

/// Sets take turns within each round, so that what disturbs the machine falls on all of them.
fn throughput(bench: &Bench, sets: &[AdapterSet]) -> Value {
    let driver = bench.plain_engine();
    let one_round = |_| sets.iter().map(|set| row(&driver, &set.adapters, decode_tokens(bench))).collect();
    let rounds: Vec<Vec<[f64; NUM_FIGURES]>> = (0..bench.rounds()).map(one_round).collect();
    let names: Vec<String> = std::iter::once(format!("prefill {PREFILL_TOKENS}"))
        .chain(DECODE_BATCHES.map(|n| format!("decode {n}")))
        .collect();
    let table = |digits: usize, figure: &dyn Fn(usize, usize) -> f64| {
        println!("| adapters | {} |\n| --- |{}", names.join(" | "), " ---: |".repeat(NUM_FIGURES));
        let rows = sets.iter().enumerate().map(|(set, AdapterSet { label, .. })| {
            let figures: Vec<f64> = (0..NUM_FIGURES).map(|at| figure(set, at)).collect();
            let cells: Vec<String> = figures.iter().map(|figure| format!("{figure:.digits$}")).collect();
            println!("| {label} | {} |", cells.join(" | "));
            json!({ "adapters": label, "figures": figures })
        });
        let rows: Vec<Value> = rows.collect();
        println!();
        rows
    };
    println!("Tokens per second, the best of the rounds; a decode figure is the sum over its sequences.\n");
    let best = table(0, &|set, at| rounds.iter().map(|round| round[set][at]).fold(0.0, f64::max));
    println!("Relative to the base of the same round, the median of the rounds.\n");
    let ratios = table(2, &|set, at| median(rounds.iter().map(|round| round[set][at] / round[0][at]).collect()));
    json!({ "columns": names, "best": best, "median_ratios_to_base": ratios })
}

/// Measures prefill and every batch size with these adapters dealt out in turn.
fn row(driver: &Driver, adapters: &[Arc<DeviceAdapter>], decode_tokens: u32) -> [f64; NUM_FIGURES] {
    let mut figures = [0.0; NUM_FIGURES];
    figures[0] = prefill(driver, adapters.first());
    for (figure, batch) in figures[1..].iter_mut().zip(DECODE_BATCHES) {
        *figure = decode(driver, batch, adapters, decode_tokens);
    }
    figures
}

fn prefill(driver: &Driver, adapter: Option<&Arc<DeviceAdapter>>) -> f64 {
    let started = Instant::now();
    let at = driver.submit(driver.job(driver.prompt(0, PREFILL_TOKENS), 1), adapter).finish()[0];
    PREFILL_TOKENS as f64 / (at - started).as_secs_f64()
}

/// From the moment when every sequence decodes to the moment when the first one ends.
fn decode(driver: &Driver, batch: usize, adapters: &[Arc<DeviceAdapter>], num_tokens: u32) -> f64 {
    // Later sequences start later; each runs long enough to be there when the last one has started.
    let max_tokens = num_tokens + 2 * batch as u32;
    let submit = |index: usize| {
        let adapter = (!adapters.is_empty()).then(|| &adapters[index % adapters.len()]);
        driver.submit(driver.job(driver.prompt(index as u64, PROMPT_TOKENS), max_tokens), adapter)
    };
    let running: Vec<_> = (0..batch).map(submit).collect();
    let times: Vec<Vec<Instant>> = running.into_iter().map(|running| running.finish()).collect();
    let from = times.iter().filter_map(|times| times.first()).max().expect("every sequence has a token");
    let to = times.iter().filter_map(|times| times.last()).min().expect("every sequence has a token");
    let count = times.iter().flatten().filter(|at| *at > from && *at <= to).count();
    count as f64 / to.saturating_duration_since(*from).as_secs_f64().max(1e-9)
}

/// One sequence alone after prompts that fill the context.
pub(crate) fn long_contexts(bench: &Bench) -> Value {
    let driver = bench.plain_engine();
    println!("| context | decode 1, tokens per second |\n| ---: | ---: |");
    let rows = LONG_CONTEXTS.map(|context| {
        // One round: reading the prompt takes most of the time.
        let prompt_tokens = if bench.options.quick { context / 16 } else { context };
        let job = driver.job(driver.prompt(0, prompt_tokens), decode_tokens(bench));
        let rate = rate(&driver.submit(job, None).finish());
        println!("| {prompt_tokens} | {rate:.0} |");
        json!({ "context": prompt_tokens, "decode_1": rate })
    });
    println!();
    json!(rows)
}

/// What speculation brings to an answer that copies, and what it costs where nothing repeats. The first has a prompt of
/// a passage three times over, which the model goes on copying; the second is drawn at a temperature at which hardly
/// anything repeats. The engines take turns.
pub(crate) fn speculation(bench: &Bench) -> Value {
    let drivers = [bench.plain_engine(), bench.speculating_engine()];
    let passage = drivers[0].prompt(7, 80);
    let num_tokens = 2 * decode_tokens(bench);
    let varied_sampling = SamplingParams { temperature: 1.0, seed: 5, ..SamplingParams::greedy() };
    let answers = [
        ("an answer that copies its prompt", passage.repeat(3), SamplingParams::greedy()),
        ("an answer that does not repeat itself", passage, varied_sampling),
    ];
    println!("| decode 1, tokens/s | plain | speculation | ratio |\n| --- | ---: | ---: | ---: |");
    let rows = answers.map(|(label, prompt, sampling)| {
        let mut best = [0.0_f64; 2];
        for _ in 0..bench.rounds() {
            for (best, driver) in best.iter_mut().zip(&drivers) {
                let mut job = driver.job(prompt.clone(), num_tokens);
                job.sampling = sampling.clone();
                *best = best.max(rate(&driver.submit(job, None).finish()));
            }
        }
        let [plain, speculation] = best;
        println!("| {label} | {plain:.0} | {speculation:.0} | {:.2} |", speculation / plain);
        json!({ "answer": label, "plain": plain, "speculation": speculation })
    });
    println!();
    json!(rows)
}

/// Tokens per second after the first.
fn rate(times: &[Instant]) -> f64 {
    let took = times[times.len() - 1].saturating_duration_since(times[0]);
    (times.len() - 1) as f64 / took.as_secs_f64().max(1e-9)
}

const fn decode_tokens(bench: &Bench) -> u32 {
    if bench.options.quick { 16 } else { 64 }
}
