//! A step op by op, on the runner itself.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};
use souk_models::llama::{LlamaRunner, MachineLimits, OpClass, StepProfile, Work};
use souk_runner::{AdapterRun, BLOCK_TOKENS, BlockId, DeviceAdapter, ModelRunner, Step, StepSequence};

use crate::Bench;
use crate::throughput::PREFILL_TOKENS;

/// Tokens before the first measured decode step.
pub(crate) const CONTEXT_TOKENS: usize = 64;

/// Where the blocks of the next sequence begin: 240 tokens for each of 48 sequences, or more where fewer are.
const BLOCKS_BETWEEN_SEQUENCES: usize = 15;

/// What a profiled step does.
enum StepKind {
    /// A row of each of so many sequences.
    Decode(usize),
    /// A prompt in one step.
    Prefill,
}

/// Of which rows the best next token is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// The last of each sequence.
    Last,
    All,
}

/// Where the time of a step goes, beside what the machine can do.
pub(crate) fn measure(bench: &Bench) -> Value {
    let mut runner = bench.runner();
    let limits = runner.measure_limits();
    println!(
        "Read bandwidth {:.1} GB/s, int8 peak {:.0} GOP/s, fork and join {:.2} us, measured in the same run.\n",
        limits.read_bytes_per_second / 1e9,
        limits.int8_operations_per_second / 1e9,
        limits.fork_join_seconds * 1e6
    );
    let steps = [
        ("decode 1", StepKind::Decode(1), 0),
        ("decode 16", StepKind::Decode(16), 0),
        ("decode 16, 16 different r=8 q,v", StepKind::Decode(16), 1),
        ("decode 16, 16 different r=16 all linear", StepKind::Decode(16), 3),
        ("prefill 512", StepKind::Prefill, 0),
    ];
    let num_steps = if bench.options.quick { 40 } else { 200 };
    let tables = steps.map(|(label, kind, set)| {
        let profile = profile(&mut runner, &kind, &bench.sets[set].adapters, num_steps);
        print(label, &profile, &limits)
    });
    json!({
        "read_bytes_per_second": limits.read_bytes_per_second,
        "int8_operations_per_second": limits.int8_operations_per_second,
        "fork_join_seconds": limits.fork_join_seconds,
        "steps": tables,
    })
}

/// Runs `num_steps` steps of a kind and returns where their time went. Adapters are dealt out in turn.
fn profile(
    runner: &mut LlamaRunner,
    kind: &StepKind,
    adapters: &[Arc<DeviceAdapter>],
    num_steps: usize,
) -> StepProfile {
    let run = |runner: &mut LlamaRunner, step: &Step| {
        runner.run(step).map(|_| ()).expect("the bench keeps the limits");
    };
    match kind {
        StepKind::Prefill => {
            let step = step(1, 0..PREFILL_TOKENS, Rows::Last, adapters);
            run(runner, &step);
            runner.start_profile();
            (0..num_steps.div_ceil(8)).for_each(|_| run(runner, &step));
        }
        StepKind::Decode(batch) => {
            let first = CONTEXT_TOKENS.min(512 / batch);
            let decode = |at: usize| step(*batch, at..at + 1, Rows::Last, adapters);
            run(runner, &step(*batch, 0..first, Rows::Last, adapters));
            run(runner, &decode(first));
            runner.start_profile();
            (1..=num_steps).for_each(|at| run(runner, &decode(first + at)));
        }
    }
    runner.take_profile()
}

/// `batch` sequences with a row at each of these positions.
pub(crate) fn step(batch: usize, positions: Range<usize>, wanted: Rows, adapters: &[Arc<DeviceAdapter>]) -> Step {
    let num_rows = positions.len();
    let mut step = Step::default();
    for sequence in 0..batch {
        let first_row = step.tokens.len();
        step.tokens.extend(positions.clone().map(|at| 100 + (at * 31 + sequence * 7) as u32 % 5000));
        step.positions.extend(positions.clone().map(|at| at as u32));
        let first_block = sequence * BLOCKS_BETWEEN_SEQUENCES;
        let blocks = first_block..first_block + positions.end.div_ceil(BLOCK_TOKENS);
        let blocks = blocks.map(|block| BlockId(block as u32)).collect();
        step.sequences.push(StepSequence { first_row, num_rows, blocks });
        let first_wanted = if wanted == Rows::All { 0 } else { num_rows - 1 };
        step.greedy_rows.extend((first_wanted..num_rows).map(|row| (first_row + row) as u32));
        if !adapters.is_empty() {
            let adapters = Arc::new([(Arc::clone(&adapters[sequence % adapters.len()]), 1.0)]);
            step.adapter_runs.push(AdapterRun { first_row, num_rows, adapters });
        }
    }
    step
}

/// Prints a table; returns it for the JSON file.
fn print(label: &str, profile: &StepProfile, limits: &MachineLimits) -> Value {
    let steps = profile.num_steps.max(1) as f64;
    let total = profile.total();
    let bound_of =
        |work: &Work| work.bound(limits.read_bytes_per_second, limits.int8_operations_per_second).as_secs_f64();
    println!("### {label}\n\n| op | us per step | share of step | bound, us | share of bound |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let mut ops = Vec::new();
    let mut row = |name: &str, seconds: f64, bound: f64| {
        let (took, bound) = (seconds / steps * 1e6, bound / steps * 1e6);
        let share = 100.0 * seconds / total.took.as_secs_f64();
        let of_bound = if bound > 0.0 { format!("{:.2}", bound / took) } else { String::new() };
        println!("| {name} | {took:.0} | {share:.1} % | {bound:.0} | {of_bound} |");
        ops.push(json!({ "op": name, "us": took, "share_percent": share, "bound_us": bound }));
    };
    for class in OpClass::ALL {
        let figures = profile.of(class);
        row(class.name(), figures.took.as_secs_f64(), bound_of(&figures.work));
    }
    // The whole step could overlap what moves with what calculates; that is the stricter bound.
    row("all", total.took.as_secs_f64(), bound_of(&total.work));
    println!();
    json!({ "step": label, "ops": ops })
}
