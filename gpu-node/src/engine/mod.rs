//! Which rows run in which step, and what becomes of their logits.
//!
//! One thread owns the model and does one thing over and over (see [`run`]): take commands, schedule, run, sample, settle,
//! answer. Everybody else holds an [`Engine`], which only leaves messages in the inbox. What the engine does not do: load
//! adapters (a request comes with its adapters resident), know text or tenants, or decide about retries.
//!
//! Read in this order: [`runner`] (the port to the model), [`scheduler`] (the decision), [`run`] (the loop),
//! [`answer`] (what the other side hears), [`sampler`].

pub mod answer;
pub mod blocks;
mod choose;
pub mod draft;
pub mod inbox;
pub mod prefix;
pub mod run;
pub mod runner;
pub mod sampler;
pub mod scheduler;
pub mod sequence;
pub mod stats;
mod step;

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use souk_protocol::{FinishReason, GenerateJob, JobFailure, Usage};
use souk_queue::EventSink;
use tokio::sync::oneshot;

use self::answer::Break;
use self::inbox::Inbox;
use self::runner::{BLOCK_TOKENS, ModelRunner, RunnerLimits};
use self::sequence::SequenceId;
use self::stats::EngineStats;
use crate::adapters::DeviceAdapter;
use crate::constraint::Constraint;
use crate::memory::{DeviceMemory, Side, pages_for};

/// Bounds of the engine. Each is lowered to what the runner can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most sequences in the batch. More wait inside the engine.
    pub max_sequences: usize,
    /// Most requests in the engine, those that wait for the batch included.
    pub max_requests: usize,
    /// Most rows in one step: bounds the step's time, and so how long a newcomer waits.
    pub max_rows: usize,
    /// Most prompt rows in a step that also decodes: bounds the gap between two tokens of a running answer. At about 300
    /// prompt tokens a second, 64 rows are a gap of 0.2 s.
    pub max_prefill_rows_beside_decode: usize,
    /// Most rows in a step of decode rows and guesses at what follows them (see [`draft`]); 0 guesses nothing. A step of
    /// this many rows should take little longer than one of a single row.
    pub max_speculative_rows: usize,
    /// Whether KV blocks keep their content after their sequence has ended, for later ones of the same tenant.
    pub prefix_cache: bool,
    /// Most bytes of adapters that one step reads: bounds how much longer a step of many different adapters takes than one
    /// of the base model. At 20 GB/s, 256 MiB are 13 ms.
    pub max_adapter_bytes: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_sequences: 32,
            max_requests: 64,
            max_rows: 512,
            max_prefill_rows_beside_decode: 64,
            max_speculative_rows: 8,
            prefix_cache: true,
            max_adapter_bytes: 256 << 20,
        }
    }
}

/// A generation for the engine.
pub struct EngineRequest {
    /// What to do.
    pub job: GenerateJob,
    /// The job's adapters, resident, in its order, with their weights. The caller keeps them leased until
    /// [`Generation::ended`].
    pub adapters: Vec<(Arc<DeviceAdapter>, f32)>,
    /// What the answer must look like; it stands after `job.resume` already.
    pub constraint: Option<Constraint>,
    /// Takes the events, up to and including `Finished`. A failure is left to the caller, who may want to try elsewhere.
    pub sink: Box<dyn EventSink>,
}

/// Why the engine did not take a request.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It can never run here.
    #[error(transparent)]
    Refused(JobFailure),
    /// As many requests as are allowed are in the engine.
    #[error("the engine has {limit} requests already; raise node.max_requests or add a node")]
    Full {
        /// The cap.
        limit: usize,
    },
    /// The engine takes no more requests: it is draining, or its thread ended.
    #[error("the engine is stopping")]
    Stopping,
    /// The operating system gave no thread.
    #[error("the engine's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A request that the engine did not take, with the reason.
pub struct Rejected {
    /// Why.
    pub error: EngineError,
    /// The request as it was, with its sink.
    pub request: Box<EngineRequest>,
}

/// A handle on the engine's thread. Cheap to clone; when the last one is gone the engine drains and ends.
#[derive(Clone)]
pub struct Engine {
    inbox: Arc<Inbox>,
    _open: Arc<DrainOnDrop>,
}

/// A generation in the engine. Dropping it cancels the generation.
pub struct Generation {
    id: SequenceId,
    inbox: Arc<Inbox>,
    num_generated: Arc<AtomicU32>,
    ended: oneshot::Receiver<Ended>,
}

/// How a generation ended.
pub struct Ended {
    /// In good order, which the sink has been told; or not, which it has not.
    pub outcome: Result<FinishReason, JobFailure>,
    /// Exact counts.
    pub usage: Usage,
    /// The request's sink, for a last event. `None` if the engine's thread died with it.
    pub sink: Option<Box<dyn EventSink>>,
}

impl Engine {
    /// Starts the engine's thread around a runner. Join the thread after [`drain`](Self::drain) to be sure that the
    /// runner's memory is free.
    ///
    /// # Errors
    /// [`EngineError::Thread`] if there is no thread to be had.
    pub fn start(runner: Box<dyn ModelRunner>, config: EngineConfig) -> Result<(Self, JoinHandle<()>), EngineError> {
        Self::start_with(runner, config, None)
    }

    /// Starts the engine over memory that it shares with the adapters: KV blocks are paid for when they are first used, and
    /// given up for adapters while nobody uses them. A request must fit into what K and V have for themselves, the floor,
    /// since the rest may be in the hands of adapters whose own requests wait behind it.
    ///
    /// # Errors
    /// [`EngineError::Thread`] if there is no thread to be had.
    pub fn start_in(
        memory: DeviceMemory,
        runner: Box<dyn ModelRunner>,
        config: EngineConfig,
    ) -> Result<(Self, JoinHandle<()>), EngineError> {
        Self::start_with(runner, config, Some(memory))
    }

    fn start_with(
        runner: Box<dyn ModelRunner>,
        config: EngineConfig,
        memory: Option<DeviceMemory>,
    ) -> Result<(Self, JoinHandle<()>), EngineError> {
        let inbox = Arc::new(Inbox::new(config.max_requests, limits_in(memory.as_ref(), &*runner)));
        if let Some(memory) = &memory {
            let inbox = Arc::downgrade(&inbox);
            memory.set_waker(
                Side::Kv,
                Arc::new(move || {
                    if let Some(inbox) = inbox.upgrade() {
                        inbox.want_memory();
                    }
                }),
            );
        }
        let engine_loop = run::EngineLoop::new(runner, config, memory, Arc::clone(&inbox));
        let thread = std::thread::Builder::new().name("souk-engine".to_owned());
        let thread = thread.spawn(move || engine_loop.run()).map_err(EngineError::Thread)?;
        let open = Arc::new(DrainOnDrop(Arc::clone(&inbox)));
        Ok((Self { inbox, _open: open }, thread))
    }

    /// Hands a request in. Does not wait.
    ///
    /// # Errors
    /// The request with [`EngineError::Refused`] if it can never fit, [`EngineError::Full`] or [`EngineError::Stopping`] if
    /// not now.
    pub fn submit(&self, request: EngineRequest) -> Result<Generation, Rejected> {
        let num_generated = Arc::new(AtomicU32::new(count(request.job.resume.len())));
        let (sender, ended) = oneshot::channel();
        let id = self.inbox.submit(request, Arc::clone(&num_generated), sender)?;
        Ok(Generation { id, inbox: Arc::clone(&self.inbox), num_generated, ended })
    }

    /// Takes no more requests; the thread ends when those inside have ended.
    pub fn drain(&self) {
        self.inbox.drain();
    }

    /// Figures as of the last step.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        self.inbox.stats()
    }

    /// What a request may ask for.
    #[must_use]
    pub fn limits(&self) -> RunnerLimits {
        self.inbox.limits()
    }

    /// Most requests that it takes at once, those that wait for the batch included.
    #[must_use]
    pub fn max_requests(&self) -> usize {
        self.inbox.max_requests()
    }

    /// Whether the thread lives and takes requests.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inbox.is_open()
    }
}

impl Generation {
    /// Tokens generated so far, `resume` included.
    #[must_use]
    pub fn num_generated(&self) -> u32 {
        self.num_generated.load(Ordering::Relaxed)
    }

    /// The counter behind [`num_generated`](Self::num_generated), which the engine's thread advances.
    #[must_use]
    pub fn counter(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.num_generated)
    }

    /// Leaves the batch at the next step. [`ended`](Self::ended) then comes with [`FinishReason::Cancelled`].
    pub fn cancel(&self) {
        self.inbox.cancel(self.id);
    }

    /// Leaves the batch at the next step. [`ended`](Self::ended) then comes with this failure, which the sink is not told.
    pub fn fail(&self, failure: JobFailure) {
        self.inbox.leave(self.id, Break::Failed(failure));
    }

    /// Waits for the end. Safe to call again if it was interrupted before it returned.
    pub async fn ended(&mut self) -> Ended {
        match (&mut self.ended).await {
            Ok(ended) => ended,
            Err(_) => {
                let usage = Usage { completion_tokens: self.num_generated(), ..Usage::default() };
                let failure = JobFailure::Internal("the engine stopped".to_owned());
                Ended { outcome: Err(failure), usage, sink: None }
            }
        }
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // Harmless if it has ended: an unknown id cancels nothing.
        self.inbox.cancel(self.id);
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("error", &self.error).field("job", &self.request.job.id).finish()
    }
}

struct DrainOnDrop(Arc<Inbox>);

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// A runner's limits for one request: what is always there for K and V.
fn limits_in(memory: Option<&DeviceMemory>, runner: &dyn ModelRunner) -> RunnerLimits {
    let limits = runner.limits();
    let Some(memory) = memory else { return limits };
    let num_blocks = (memory.floor(Side::Kv) / pages_for(runner.block_bytes()).max(1)).min(limits.num_blocks);
    RunnerLimits { num_blocks, context_length: limits.context_length.min(num_blocks * BLOCK_TOKENS), ..limits }
}

/// A number of tokens as it travels. Contexts are far below 2^32.
fn count(num_tokens: usize) -> u32 {
    u32::try_from(num_tokens).unwrap_or(u32::MAX)
}
