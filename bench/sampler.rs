//! Microseconds to choose a token from one row of logits, by what the request asks for. Prints a Markdown table.
//!
//! `cargo bench -p souk-bench --bench sampler`. Rows are of the size of SmolLM2's vocabulary: one as a model is sure of
//! its answer, one as flat as no model gives them, the worst that can come. Each figure is the best of many, on one
//! thread.

#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::time::Instant;

use souk_engine::sampler::{ChoiceContext, Sampler};
use souk_protocol::SamplingParams;
use souk_testkit::Random;

const VOCAB_SIZE: usize = 49_152;
const NUM_RUNS: u32 = 400;

fn main() {
    let sampled = SamplingParams { temperature: 0.8, ..SamplingParams::greedy() };
    let requests = [
        ("greedy", SamplingParams::greedy(), None),
        ("greedy, 5 logprobs", SamplingParams::greedy(), Some(5)),
        ("temperature", sampled.clone(), None),
        ("temperature, top_k 50", SamplingParams { top_k: 50, ..sampled.clone() }, None),
        ("temperature, min_p 0.05", SamplingParams { min_p: 0.05, ..sampled.clone() }, None),
        ("temperature, top_p 0.9", SamplingParams { top_p: 0.9, ..sampled.clone() }, None),
        ("temperature, top_p 0.9, 5 logprobs", SamplingParams { top_p: 0.9, ..sampled }, Some(5)),
    ];
    println!("| microseconds per row of {VOCAB_SIZE} | peaked | flat |\n| --- | ---: | ---: |");
    for (label, params, num_top) in requests {
        let [peaked, flat] = [row(24.0, 4), row(1.0, 1)].map(|row| measure(&row, &params, num_top));
        println!("| {label} | {peaked:.0} | {flat:.0} |");
    }
}

fn measure(row: &[f32], params: &SamplingParams, num_top: Option<u8>) -> f64 {
    let mut sampler = Sampler::default();
    let mut best = f64::INFINITY;
    for position in 0..NUM_RUNS {
        // Nothing in these requests changes the row but the copy keeps it as cold as a model leaves it.
        let mut logits = row.to_vec();
        let started = Instant::now();
        let chosen =
            sampler.choose(&mut logits, ChoiceContext { params, counts: None, allowed: None, position, num_top });
        best = best.min(started.elapsed().as_secs_f64() * 1e6);
        assert!(std::hint::black_box(chosen).is_ok(), "the row is finite");
    }
    best
}

/// Logits spread over `size`; a `power` above one leaves few near the top.
fn row(size: f32, power: i32) -> Vec<f32> {
    let mut random = Random::new(1);
    (0..VOCAB_SIZE).map(|_| (random.float() / 2.0 + 0.5).powi(power) * size).collect()
}
