//! What a step of more rows costs: of one answer that checks its draft, and of as many answers as rows.
//!
//! The first bounds how far speculation pays: an accepted token saves a step, and each rejected one costs what the
//! step is longer by (`engine.max_speculative_tokens`).

use std::time::Instant;

use serde_json::{Value, json};
use souk_runner::{ModelRunner as _, Step};

use crate::profile::{CONTEXT_TOKENS, Rows, step};
use crate::{Bench, median};

const COUNTS: [usize; 11] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48];

pub(crate) fn measure(bench: &Bench) -> Value {
    let mut runner = bench.runner();
    let mut run = |step: &Step| {
        let started = Instant::now();
        runner.run(step).map(|_| ()).expect("the bench keeps the limits");
        started.elapsed().as_secs_f64() * 1e3
    };
    for first in (0..CONTEXT_TOKENS).step_by(8) {
        run(&step(COUNTS[COUNTS.len() - 1], first..first + 8, Rows::Last, &[]));
    }
    let of_one = COUNTS.map(|count| step(1, CONTEXT_TOKENS..CONTEXT_TOKENS + count, Rows::All, &[]));
    let of_many = COUNTS.map(|count| step(count, CONTEXT_TOKENS..CONTEXT_TOKENS + 1, Rows::All, &[]));
    // All sizes take turns, so that what disturbs the machine falls on each of them.
    let mut times = vec![[const { Vec::new() }; 2]; COUNTS.len()];
    for _ in 0..if bench.options.quick { 3 } else { 25 } {
        for (times, steps) in times.iter_mut().zip(std::iter::zip(&of_one, &of_many)) {
            times[0].push(run(steps.0));
            times[1].push(run(steps.1));
        }
    }
    println!(
        "Median time of a step by its rows, each with the best token after it; {CONTEXT_TOKENS} tokens of context.\n"
    );
    println!("| rows | one answer, ms | against one row | as many answers, ms | against one row |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    let medians: Vec<[f64; 2]> = times.into_iter().map(|times| times.map(median)).collect();
    let rows: Vec<Value> = std::iter::zip(COUNTS, &medians)
        .map(|(count, [one, many])| {
            let ratios = [one / medians[0][0], many / medians[0][1]];
            println!("| {count} | {one:.2} | {:.2} | {many:.2} | {:.2} |", ratios[0], ratios[1]);
            json!({ "rows": count, "one_answer_ms": one, "as_many_answers_ms": many })
        })
        .collect();
    println!();
    json!(rows)
}
