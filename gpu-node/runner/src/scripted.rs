//! A runner for tests that remembers which token was computed into which place of the KV pool, and whose logits are a
//! function of the context that it finds there. A block that is mixed up, stale or missing changes the answer or
//! panics.

#![expect(clippy::unwrap_used, reason = "a script that cannot go on fails the test that runs it")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use souk_protocol::{Digest, TokenId};

use crate::{
    BLOCK_TOKENS, BlockId, CallerAlone, DeviceAdapter, ModelRunner, RunnerError, RunnerLimits, Step, StepOutput,
};

/// Width of a row of logits.
pub const VOCAB: usize = 64;
/// What an adapter is said to occupy.
pub const ADAPTER_BYTES: usize = 16;
/// What a block takes of the device's memory.
pub const BLOCK_BYTES: usize = 4096;
/// A token whose row comes out as NaN.
pub const POISON: TokenId = 63;

/// What a test can see and do while the engine owns the runner.
#[derive(Clone, Default)]
pub struct Script {
    /// Makes the next step fail.
    pub fail_next: Arc<AtomicBool>,
    /// Makes the next step panic.
    pub panic_next: Arc<AtomicBool>,
    /// Lets logits depend on the last token, the adapters and roughly the position alone: such a model repeats itself.
    pub short_memory: Arc<AtomicBool>,
    /// The adapter runs of each step, as `first..end` with the number of adapters.
    pub adapter_runs: Arc<Mutex<Vec<String>>>,
}

/// The runner. It panics where a step breaks a rule of the port.
pub struct ScriptedRunner {
    limits: RunnerLimits,
    script: Script,
    kv: HashMap<(BlockId, usize), KvEntry>,
    logits: Vec<f32>,
    greedy: Vec<Option<TokenId>>,
}

#[derive(Clone, Copy)]
struct KvEntry {
    position: usize,
    token: TokenId,
    adapters: u64,
}

impl ScriptedRunner {
    /// A runner with these limits, which does what the script says.
    #[must_use]
    pub fn new(limits: RunnerLimits, script: Script) -> Self {
        Self { limits, script, kv: HashMap::new(), logits: Vec::new(), greedy: Vec::new() }
    }

    fn check(&self, step: &Step) {
        assert!(step.tokens.len() <= self.limits.max_rows, "{} rows", step.tokens.len());
        let num_wanted = step.logit_rows.len() + step.greedy_rows.len();
        assert!(num_wanted <= self.limits.max_logit_rows, "{num_wanted} rows of logits");
        assert!(step.logit_rows.is_sorted_by(|a, b| a < b) && step.greedy_rows.is_sorted_by(|a, b| a < b));
        assert!(step.greedy_rows.iter().all(|row| !step.logit_rows.contains(row)), "a row is wanted once");
        assert_eq!(step.tokens.len(), step.positions.len());
        let mut next_row = 0;
        let (mut read, mut written) = (HashSet::new(), HashSet::new());
        for sequence in &step.sequences {
            assert_eq!(sequence.first_row, next_row, "sequences cover all rows in order");
            next_row += sequence.num_rows;
            let last = step.positions[next_row - 1] as usize;
            assert_eq!(sequence.blocks.len(), last / BLOCK_TOKENS + 1);
            assert!(sequence.blocks.iter().all(|block| (block.0 as usize) < self.limits.num_blocks));
            let (kept, filled) = sequence.blocks.split_at(step.positions[sequence.first_row] as usize / BLOCK_TOKENS);
            read.extend(kept);
            assert!(filled.iter().all(|block| written.insert(*block)), "two sequences write one block");
        }
        assert_eq!(next_row, step.tokens.len());
        assert!(read.is_disjoint(&written), "a block that others read is not written");
        let runs = step.adapter_runs.iter();
        let runs =
            runs.map(|run| format!("{}..{}x{}", run.first_row, run.first_row + run.num_rows, run.adapters.len()));
        self.script.adapter_runs.lock().unwrap().push(runs.collect::<Vec<_>>().join(" "));
    }

    fn write(&mut self, step: &Step) {
        for sequence in &step.sequences {
            for row in sequence.first_row..sequence.first_row + sequence.num_rows {
                let position = step.positions[row] as usize;
                let run =
                    step.adapter_runs.iter().find(|run| (run.first_row..run.first_row + run.num_rows).contains(&row));
                let adapters = run.map_or(0, |run| adapters_hash(&run.adapters));
                let place = (sequence.blocks[position / BLOCK_TOKENS], position % BLOCK_TOKENS);
                self.kv.insert(place, KvEntry { position, token: step.tokens[row], adapters });
            }
        }
    }

    fn logits_of(&self, step: &Step, row: u32) -> Vec<f32> {
        let row = row as usize;
        let owner = step.sequences.iter().find(|s| (s.first_row..s.first_row + s.num_rows).contains(&row)).unwrap();
        let (hash, poisoned) = self.context_hash(&owner.blocks, step.positions[row] as usize);
        let mut logits = row_of(hash);
        if poisoned {
            *logits.last_mut().unwrap() = f32::NAN;
        }
        logits
    }

    fn context_hash(&self, blocks: &[BlockId], last: usize) -> (u64, bool) {
        let mut hash = 0;
        let mut poisoned = false;
        for position in 0..=last {
            let entry = self.kv[&(blocks[position / BLOCK_TOKENS], position % BLOCK_TOKENS)];
            assert_eq!(entry.position, position, "K and V of this position were overwritten");
            if self.script.short_memory.load(Ordering::SeqCst) {
                hash = mix(position as u64 / 40);
            }
            hash = extend(hash, entry.token, entry.adapters);
            poisoned |= entry.token == POISON;
        }
        (hash, poisoned)
    }
}

impl ModelRunner for ScriptedRunner {
    fn limits(&self) -> RunnerLimits {
        self.limits
    }

    fn block_bytes(&self) -> usize {
        BLOCK_BYTES
    }

    fn discard_blocks(&mut self, blocks: &[BlockId]) {
        self.kv.retain(|(block, _), _| !blocks.contains(block));
    }

    fn run(&mut self, step: &Step) -> Result<StepOutput<'_>, RunnerError> {
        self.check(step);
        assert!(!self.script.panic_next.load(Ordering::SeqCst), "scripted panic");
        if self.script.fail_next.swap(false, Ordering::SeqCst) {
            return Err(RunnerError("scripted failure".to_owned()));
        }
        self.write(step);
        self.logits = step.logit_rows.iter().flat_map(|row| self.logits_of(step, *row)).collect();
        let best = |row: &u32| {
            let logits = self.logits_of(step, *row);
            logits.iter().all(|logit| logit.is_finite()).then(|| best_of(&logits))
        };
        self.greedy = step.greedy_rows.iter().map(best).collect();
        Ok(StepOutput { logits: &mut self.logits, greedy: &self.greedy, threads: &CallerAlone })
    }
}

/// The answer that the scripted model gives to a context, greedily, without any engine.
#[must_use]
pub fn answer(prompt: &[TokenId], adapters: &[(Arc<DeviceAdapter>, f32)], num_tokens: usize) -> Vec<TokenId> {
    answer_from(prompt, &[(0, adapters)], num_tokens)
}

/// From which position on which adapters act.
pub type Stage<'a> = (usize, &'a [(Arc<DeviceAdapter>, f32)]);

/// The same where adapters act from a position on, up to the next entry's.
#[must_use]
pub fn answer_from(prompt: &[TokenId], stages: &[Stage<'_>], num_tokens: usize) -> Vec<TokenId> {
    let acting = |position| stages.iter().rfind(|(from, _)| *from <= position).map_or(0, |(_, set)| adapters_hash(set));
    let hash_of = |hash, (position, token): (usize, &TokenId)| extend(hash, *token, acting(position));
    let mut hash = prompt.iter().enumerate().fold(0, hash_of);
    let adapters = acting(prompt.len());
    let mut tokens = Vec::new();
    while tokens.len() < num_tokens {
        let row = row_of(hash);
        let best = best_of(&row);
        tokens.push(best);
        hash = extend(hash, best, adapters);
    }
    tokens
}

/// An adapter that changes nothing; its name decides what the scripted model makes of it.
#[must_use]
pub fn adapter(name: &str) -> Arc<DeviceAdapter> {
    Arc::new(DeviceAdapter::new(Digest::of(name.as_bytes()), ADAPTER_BYTES, Vec::new(), Arc::new(())))
}

/// Logits of a context. The poison token never wins.
fn row_of(hash: u64) -> Vec<f32> {
    let mut row: Vec<f32> =
        (0..VOCAB as u64).map(|id| (mix(hash ^ mix(id + 1)) >> 40) as f32 / (1 << 20) as f32).collect();
    row[POISON as usize] = -1.0;
    row
}

/// The first of the largest.
fn best_of(row: &[f32]) -> TokenId {
    (0..row.len()).fold(0, |best, id| if row[id] > row[best] { id } else { best }) as TokenId
}

fn adapters_hash(adapters: &[(Arc<DeviceAdapter>, f32)]) -> u64 {
    adapters.iter().fold(0, |hash, (adapter, weight)| {
        let bytes = adapter.digest.as_bytes().first_chunk().copied().unwrap_or_default();
        mix(hash ^ u64::from_le_bytes(bytes) ^ u64::from(weight.to_bits()))
    })
}

fn extend(hash: u64, token: TokenId, adapters: u64) -> u64 {
    mix(hash.wrapping_add(u64::from(token) + 1) ^ adapters)
}

fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 31)).wrapping_add(0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits ^ (bits >> 29)
}
