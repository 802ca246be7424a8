//! The runner for llama-family models.

use std::sync::Arc;

use souk_kernels::KernelError;
use souk_kernels::cpu::RopeTable;
use souk_kernels::cpu::ops::LoraScratch;
use souk_kernels::cpu::{Cpu, Isa, KvCache, MachineLimits};
use souk_protocol::LlamaShape;
use souk_runner::{BLOCK_TOKENS, BlockId, ModelRunner, RunnerError, RunnerLimits, Step, StepOutput};

use super::adapter_runs::{AdapterMemory, AdapterRuns};
use super::forward::Forward;
use super::layout::{StepLayout, check};
use super::profile::{Laps, StepProfile};
use super::recycle::recycle;
use super::threads::CpuThreads;
use super::workspace::Workspace;
use crate::base::LlamaWeights;

/// A llama-family model on the CPU with its KV cache.
pub struct LlamaRunner {
    limits: RunnerLimits,
    cpu: CpuThreads,
    weights: Arc<LlamaWeights>,
    rope: RopeTable,
    cache: KvCache,
    work: Workspace,
    lora_scratch: LoraScratch,
    plan: StepLayout,
    adapter_memory: AdapterMemory,
    /// `None` unless someone asked where the time goes.
    profile: Option<StepProfile>,
}

/// How large a runner is built.
#[derive(Clone, Copy, Debug)]
pub struct RunnerConfig {
    /// Most rows in a step; bounds the buffers between the layers.
    pub max_rows: usize,
    /// Most rows of a step whose logits or best token are wanted; each takes four bytes per entry of the vocabulary.
    pub max_logit_rows: usize,
    /// How large the KV cache is.
    pub kv: KvBudget,
    /// Threads that compute, the caller's own among them.
    pub num_threads: usize,
    /// Instruction set; `None` takes the best that this machine has.
    pub isa: Option<Isa>,
}

/// How large the KV cache is.
#[derive(Clone, Copy, Debug)]
pub enum KvBudget {
    /// In blocks.
    Blocks(usize),
    /// As many blocks as fit into so many bytes.
    Bytes(usize),
}

/// Why a runner cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A setting is out of range.
    #[error("{what} is {given}; it must be {least} to {most}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// Its value.
        given: usize,
        /// The least that works.
        least: usize,
        /// The most that works.
        most: usize,
    },
    /// The KV budget does not hold a single block.
    #[error("the KV cache may have {given} bytes, and one block of {BLOCK_TOKENS} tokens takes {block}")]
    KvBudget {
        /// The budget.
        given: usize,
        /// Size of a block.
        block: usize,
    },
    /// The kernels refuse the instruction set or a shape.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl LlamaRunner {
    /// Allocates everything that steps will need.
    ///
    /// # Errors
    /// [`ModelError`] if a setting is out of range or this machine lacks the instruction set.
    pub fn new(weights: Arc<LlamaWeights>, config: &RunnerConfig) -> Result<Self, ModelError> {
        let shape = weights.shape;
        let num_blocks = config.kv.num_blocks(&shape)?;
        check_setting("max_rows", config.max_rows, 1, 1 << 20)?;
        check_setting("max_logit_rows", config.max_logit_rows, 1, config.max_rows)?;
        // Slots are numbered with 32 bits.
        check_setting("the number of KV blocks", num_blocks, 1, u32::MAX as usize / BLOCK_TOKENS)?;
        check_setting("num_threads", config.num_threads, 1, 1024)?;
        let cpu = match config.isa {
            Some(isa) => Cpu::with_isa(config.num_threads, isa)?,
            None => Cpu::new(config.num_threads),
        };
        let limits = RunnerLimits {
            max_rows: config.max_rows,
            max_logit_rows: config.max_logit_rows,
            num_blocks,
            vocab_size: shape.vocab_size,
            // No sequence can be longer than the whole pool.
            context_length: shape.context_length.min(num_blocks * BLOCK_TOKENS),
        };
        Ok(Self {
            limits,
            cpu: CpuThreads(cpu),
            rope: RopeTable::new(shape.head_dim, shape.rope_theta, limits.context_length),
            cache: KvCache::new(shape.num_layers, num_blocks, shape.num_kv_heads, shape.head_dim),
            work: Workspace::new(&shape, config.max_rows, config.max_logit_rows),
            lora_scratch: LoraScratch::default(),
            plan: StepLayout::default(),
            adapter_memory: AdapterMemory::default(),
            profile: None,
            weights,
        })
    }

    /// The weights, which others may share.
    #[must_use]
    pub fn weights(&self) -> &Arc<LlamaWeights> {
        &self.weights
    }

    /// The instruction set in use.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.cpu.0.isa()
    }

    /// Books the time of the steps from here on, op by op.
    pub fn start_profile(&mut self) {
        self.profile = Some(StepProfile::default());
    }

    /// Ends what [`start_profile`](Self::start_profile) began; empty if nothing did.
    pub fn take_profile(&mut self) -> StepProfile {
        self.profile.take().unwrap_or_default()
    }

    /// Measures what the machine can do with the runner's threads.
    #[must_use]
    pub fn measure_limits(&self) -> MachineLimits {
        MachineLimits::measure(&self.cpu.0)
    }

    /// Memory that the KV cache occupies when every block is in use.
    #[must_use]
    pub fn kv_bytes(&self) -> usize {
        self.cache.size_bytes()
    }

    /// Memory of the weights and the KV cache together.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.weights.size_bytes() + self.kv_bytes()
    }
}

impl ModelRunner for LlamaRunner {
    fn limits(&self) -> RunnerLimits {
        self.limits
    }

    fn run(&mut self, step: &Step) -> Result<StepOutput<'_>, RunnerError> {
        check(step, &self.limits)?;
        if step.tokens.is_empty() {
            return Ok(StepOutput { logits: &mut [], greedy: &[], threads: &self.cpu });
        }
        let num_layers = self.weights.layers.len();
        let (runs, memory) = (&step.adapter_runs, &mut self.adapter_memory);
        let mut adapters = AdapterRuns::new(runs, num_layers, memory, &mut self.lora_scratch)?;
        let laps = Laps::begin(self.profile.as_mut());
        let _threads_stay_awake = self.cpu.0.enter();
        let layout = self.plan.lay_out(step);
        let forward = Forward {
            cpu: &self.cpu.0,
            weights: &self.weights,
            rope: &self.rope,
            cache: &mut self.cache,
            work: &mut self.work,
            adapters: &mut adapters,
            step,
            layout: &layout,
            laps,
        };
        let result = forward.run();
        self.adapter_memory = adapters.into_memory();
        self.plan.spans = recycle(layout.spans);
        result.map_err(|error| RunnerError(error.to_string()))?;
        Ok(StepOutput {
            logits: &mut self.work.logits[..step.logit_rows.len() * self.limits.vocab_size],
            greedy: &self.work.greedy[..step.greedy_rows.len()],
            threads: &self.cpu,
        })
    }

    fn block_bytes(&self) -> usize {
        self.cache.block_bytes()
    }

    fn discard_blocks(&mut self, blocks: &[BlockId]) {
        for block in blocks {
            self.cache.discard(block.0 as usize);
        }
    }
}

impl KvBudget {
    /// Bytes that one block of K and V takes over all layers.
    #[must_use]
    pub const fn block_bytes(shape: &LlamaShape) -> usize {
        KvCache::block_bytes_for(shape.num_layers, shape.num_kv_heads, shape.head_dim)
    }

    fn num_blocks(self, shape: &LlamaShape) -> Result<usize, ModelError> {
        match self {
            Self::Blocks(num_blocks) => Ok(num_blocks),
            Self::Bytes(given) => {
                let block = Self::block_bytes(shape);
                if given < block { Err(ModelError::KvBudget { given, block }) } else { Ok(given / block) }
            }
        }
    }
}

fn check_setting(what: &'static str, given: usize, least: usize, most: usize) -> Result<(), ModelError> {
    if (least..=most).contains(&given) { Ok(()) } else { Err(ModelError::Setting { what, given, least, most }) }
}
