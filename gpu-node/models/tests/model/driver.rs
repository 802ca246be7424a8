//! Drives a runner as an engine would: sequences with blocks, some rows of each in every step.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use souk_engine::device_memory::{DeviceMemory, PAGE_BYTES};
use souk_engine::{Engine, EngineConfig};
use souk_models::base::{self, FetchConfig, LlamaWeights, LoadedBase};
use souk_models::llama::{KvBudget, LlamaRunner, RunnerConfig};
use souk_runner::{AdapterRun, BLOCK_TOKENS, BlockId, DeviceAdapter, ModelRunner, Step, StepSequence};

/// Adapters of one sequence with their weights.
pub(crate) type Adapters = Arc<[(Arc<DeviceAdapter>, f32)]>;

/// A sequence that is fed known tokens.
pub(crate) struct Sequence {
    pub(crate) tokens: Vec<u32>,
    pub(crate) adapters: Adapters,
    /// The adapters act from this position on.
    pub(crate) first_adapted: usize,
    /// Only the best token of each row is asked for.
    pub(crate) is_greedy: bool,
    /// Logits of every row that has run.
    pub(crate) logits: Vec<Vec<f32>>,
    /// The best token of every row that has run, if that is what was asked for.
    pub(crate) best: Vec<Option<u32>>,
}

impl Sequence {
    pub(crate) fn new(tokens: impl Into<Vec<u32>>, adapters: &[(&Arc<DeviceAdapter>, f32)]) -> Self {
        let adapters = adapters.iter().map(|(adapter, weight)| (Arc::clone(adapter), *weight)).collect();
        let (logits, best) = (Vec::new(), Vec::new());
        Self { tokens: tokens.into(), adapters, first_adapted: 0, is_greedy: false, logits, best }
    }
}

/// Runs all sequences to their ends in common steps. In each step every unfinished sequence gives as many rows as
/// `num_rows(sequence, step)` says. No sequence has adjacent blocks.
pub(crate) fn run_together(
    runner: &mut LlamaRunner,
    sequences: &mut [Sequence],
    num_rows: impl Fn(usize, usize) -> usize,
) {
    let vocab_size = runner.limits().vocab_size;
    let blocks = deal_blocks(runner.limits().num_blocks, sequences);
    for turn in 0.. {
        let mut step = Step::default();
        let mut owners = Vec::new();
        for (index, sequence) in sequences.iter().enumerate() {
            let done = sequence.logits.len() + sequence.best.len();
            let rows = num_rows(index, turn).min(sequence.tokens.len() - done);
            if rows == 0 {
                continue;
            }
            let first_row = step.tokens.len();
            step.tokens.extend(&sequence.tokens[done..done + rows]);
            step.positions.extend((done..done + rows).map(|position| position as u32));
            let blocks = blocks[index][..(done + rows).div_ceil(BLOCK_TOKENS)].to_vec();
            step.sequences.push(StepSequence { first_row, num_rows: rows, blocks });
            let skipped = sequence.first_adapted.saturating_sub(done).min(rows);
            if !sequence.adapters.is_empty() && skipped < rows {
                let adapters = Arc::clone(&sequence.adapters);
                step.adapter_runs.push(AdapterRun {
                    first_row: first_row + skipped,
                    num_rows: rows - skipped,
                    adapters,
                });
            }
            let wanted = if sequence.is_greedy { &mut step.greedy_rows } else { &mut step.logit_rows };
            wanted.extend((first_row..first_row + rows).map(|row| row as u32));
            owners.extend(std::iter::repeat_n(index, rows));
        }
        if owners.is_empty() {
            break;
        }
        let output = runner.run(&step).expect("the step keeps the limits");
        for (row, logits) in step.logit_rows.iter().zip(output.logits.chunks_exact(vocab_size)) {
            sequences[owners[*row as usize]].logits.push(logits.to_vec());
        }
        for (row, best) in step.greedy_rows.iter().zip(output.greedy) {
            sequences[owners[*row as usize]].best.push(*best);
        }
    }
}

/// Blocks for all tokens of each sequence, one by one in turn from the end of the pool.
fn deal_blocks(num_blocks: usize, sequences: &[Sequence]) -> Vec<Vec<BlockId>> {
    let mut free = (0..num_blocks as u32).rev().map(BlockId);
    let mut blocks = vec![Vec::new(); sequences.len()];
    for turn in 0.. {
        let wanting = |sequence: &Sequence| sequence.tokens.len() > turn * BLOCK_TOKENS;
        if !sequences.iter().any(wanting) {
            break;
        }
        for (blocks, _) in blocks.iter_mut().zip(sequences).filter(|(_, sequence)| wanting(sequence)) {
            blocks.push(free.next().expect("the pool is large enough for the test"));
        }
    }
    blocks
}

/// Logits of every position of one sequence that runs alone, in one step.
pub(crate) fn run_alone(runner: &mut LlamaRunner, sequence: Sequence) -> Vec<Vec<f32>> {
    let mut sequences = [sequence];
    run_together(runner, &mut sequences, |_, _| usize::MAX);
    let [sequence] = sequences;
    sequence.logits
}

/// A runner for tests: room for a few hundred rows.
pub(crate) fn runner(weights: &Arc<LlamaWeights>, num_threads: usize) -> LlamaRunner {
    let kv = KvBudget::Blocks(160);
    let config = RunnerConfig { max_rows: 256, max_logit_rows: 256, kv, num_threads, isa: None };
    LlamaRunner::new(Arc::clone(weights), &config).expect("the settings are sound")
}

/// An engine over a runner whose blocks have all the memory that they can take.
pub(crate) fn start_engine(runner: LlamaRunner, config: EngineConfig) -> (Engine, JoinHandle<()>) {
    let memory = DeviceMemory::split(runner.kv_bytes(), PAGE_BYTES).expect("there is a page for each side");
    Engine::start(memory, Box::new(runner), config).expect("there is a thread to be had")
}

/// Loads a model from a path, remembering digests in `cache`.
pub(crate) fn load(path: &Path, cache: &Path) -> Result<LoadedBase, base::BaseError> {
    let source = path.to_str().expect("test folders have plain names").parse()?;
    base::load(&source, &FetchConfig::new(cache.to_owned()), &mut |_| {})
}

/// The natural logarithms of the probabilities that logits mean.
pub(crate) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - most) - sum.ln()).collect()
}

/// The index of the greatest logit; the first of equals.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let best = (0..).zip(logits).reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.expect("there are logits").0
}
