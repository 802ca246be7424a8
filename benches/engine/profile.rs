//! A step op by op, on the runner itself.

use std::sync::Arc;

use serde_json::{Value, json};
use souk_gpu_node::adapters::DeviceAdapter;
use souk_gpu_node::engine::runner::{AdapterRun, BLOCK_TOKENS, BlockId, ModelRunner, Step, StepSequence};
use souk_gpu_node::model::{LlamaRunner, MachineLimits, OpClass, StepProfile, Work};

use crate::PREFILL_TOKENS;

/// Tokens before the first profiled decode step.
const CONTEXT_TOKENS: usize = 64;

/// What a profiled step does.
pub(crate) enum StepKind {
    /// A row of each of so many sequences.
    Decode(usize),
    /// A prompt in one step.
    Prefill,
}

/// Runs `num_steps` steps of a kind and returns where their time went. Adapters are dealt out in turn.
pub(crate) fn profile(
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
            let step = step(1, 0, PREFILL_TOKENS, adapters);
            run(runner, &step);
            runner.start_profile();
            (0..num_steps.div_ceil(8)).for_each(|_| run(runner, &step));
        }
        StepKind::Decode(batch) => {
            run(runner, &step(*batch, 0, CONTEXT_TOKENS.min(512 / batch), adapters));
            let first = CONTEXT_TOKENS.min(512 / batch);
            run(runner, &step(*batch, first, 1, adapters));
            runner.start_profile();
            (1..=num_steps).for_each(|at| run(runner, &step(*batch, first + at, 1, adapters)));
        }
    }
    runner.take_profile()
}

/// `batch` sequences with `num_rows` rows each from `first_position` on.
fn step(batch: usize, first_position: usize, num_rows: usize, adapters: &[Arc<DeviceAdapter>]) -> Step {
    const BLOCKS_PER_SEQUENCE: usize = 40;
    let mut step = Step::default();
    for sequence in 0..batch {
        let first_row = step.tokens.len();
        let end = first_position + num_rows;
        step.tokens.extend((first_position..end).map(|at| 100 + (at * 31 + sequence * 7) as u32 % 5000));
        step.positions.extend((first_position..end).map(|at| at as u32));
        let first_block = sequence * BLOCKS_PER_SEQUENCE;
        let blocks = (first_block..first_block + end.div_ceil(BLOCK_TOKENS)).map(|block| BlockId(block as u32));
        step.sequences.push(StepSequence { first_row, num_rows, blocks: blocks.collect() });
        step.greedy_rows.push((first_row + num_rows - 1) as u32);
        if !adapters.is_empty() {
            let adapters = Arc::new([(Arc::clone(&adapters[sequence % adapters.len()]), 1.0)]);
            step.adapter_runs.push(AdapterRun { first_row, num_rows, adapters });
        }
    }
    step
}

/// Prints a table; returns it for the JSON file.
pub(crate) fn print(label: &str, profile: &StepProfile, limits: &MachineLimits) -> Value {
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
