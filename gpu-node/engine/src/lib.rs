//! Which rows run in which step, and what becomes of their logits.
//!
//! One thread owns the model and does one thing over and over (see `run`): take commands, schedule, run, sample, apply,
//! answer. Everybody else holds an [`Engine`], which only leaves messages in the inbox. What the engine does not do:
//! load adapters (a request comes with its adapters resident), know text or tenants, or decide about retries.
//!
//! Read in this order: [`souk_runner`] (the port to the model), `scheduler` (the decision), `run` (the loop), `answer`
//! (sampling and events), [`sampler`]. This crate has neither files nor sockets: see its Cargo.toml.

mod adapter_set;
mod advance;
mod answer;
mod blocks;
mod choose;
mod config;
pub mod constraint;
mod count;
pub mod device_memory;
mod draft;
pub mod figures;
mod inbox;
mod prefix;
mod request;
mod run;
pub mod sampler;
mod scheduler;
mod sequence;
mod stats;
mod step;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use souk_protocol::{JobFailure, Usage};
use souk_runner::{BLOCK_TOKENS, ModelRunner, RunnerLimits};
use tokio::sync::oneshot;

pub use self::config::{EngineConfig, MemorySettings};
use self::count::count;
use self::device_memory::{DeviceMemory, Side, pages_for};
use self::inbox::Inbox;
pub use self::request::{Ended, EngineError, EngineRequest, Rejected};
pub use self::scheduler::Reuse;
use self::sequence::SequenceId;
pub use self::stats::EngineStats;

/// A handle on the engine's thread. Cheap to clone; when the last one is gone the engine drains and ends.
#[derive(Clone)]
pub struct Engine {
    inbox: Arc<Inbox>,
    max_sequences: usize,
    _open: Arc<DrainOnDrop>,
}

/// The caller's handle on a request in the engine. Dropping it cancels the request.
pub struct RequestHandle {
    id: SequenceId,
    inbox: Arc<Inbox>,
    num_generated: Arc<AtomicU32>,
    ended: oneshot::Receiver<Ended>,
}

impl Engine {
    /// Starts the engine's thread around a runner, over memory that it shares with the adapters: KV blocks are paid for
    /// when they are first used, and given up for adapters while nobody uses them. A request must fit into what K and V
    /// have for themselves, the floor, since the rest may be in the hands of adapters whose own requests wait behind
    /// it.
    ///
    /// Join the thread after [`drain`](Self::drain) to be sure that the runner's memory is free.
    ///
    /// # Errors
    /// [`EngineError::Thread`] if the operating system gives no thread.
    pub fn start(
        memory: DeviceMemory,
        runner: Box<dyn ModelRunner>,
        config: EngineConfig,
    ) -> Result<(Self, JoinHandle<()>), EngineError> {
        let inbox = Arc::new(Inbox::new(config.max_requests, limits_in(&memory, &*runner)));
        let max_sequences = run::budget(config, runner.limits()).max_sequences;
        let of_memory = Arc::downgrade(&inbox);
        memory.set_waker(
            Side::Kv,
            Arc::new(move || {
                if let Some(inbox) = of_memory.upgrade() {
                    inbox.want_memory();
                }
            }),
        );
        let engine_loop = run::EngineLoop::new(runner, config, memory, Arc::clone(&inbox));
        let thread = std::thread::Builder::new().name("souk-engine".to_owned());
        let thread = thread.spawn(move || engine_loop.run()).map_err(EngineError::Thread)?;
        let open = Arc::new(DrainOnDrop(Arc::clone(&inbox)));
        Ok((Self { inbox, max_sequences, _open: open }, thread))
    }

    /// Hands a request in. Does not wait.
    ///
    /// # Errors
    /// The request with [`EngineError::Refused`] if it can never fit, [`EngineError::Full`] or
    /// [`EngineError::Stopping`] if not now.
    pub fn submit(&self, request: EngineRequest) -> Result<RequestHandle, Rejected> {
        let num_generated = Arc::new(AtomicU32::new(count(request.job.resume.len())));
        let (sender, ended) = oneshot::channel();
        let id = self.inbox.submit(request, Arc::clone(&num_generated), sender)?;
        Ok(RequestHandle { id, inbox: Arc::clone(&self.inbox), num_generated, ended })
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

    /// Sequences that the batch has places for.
    #[must_use]
    pub const fn max_sequences(&self) -> usize {
        self.max_sequences
    }

    /// Whether the thread lives and takes requests.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inbox.is_open()
    }
}

impl RequestHandle {
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

    /// Leaves the batch at the next step. [`ended`](Self::ended) then comes with
    /// [`FinishReason::Cancelled`](souk_protocol::FinishReason::Cancelled).
    pub fn cancel(&self) {
        self.inbox.cancel(self.id);
    }

    /// Leaves the batch at the next step. [`ended`](Self::ended) then comes with this failure, which the sink is not
    /// told.
    pub fn fail(&self, failure: JobFailure) {
        self.inbox.leave(self.id, Some(failure));
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

impl Drop for RequestHandle {
    fn drop(&mut self) {
        // Harmless if it has ended: an unknown id cancels nothing.
        self.inbox.cancel(self.id);
    }
}

struct DrainOnDrop(Arc<Inbox>);

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        self.0.drain();
    }
}

/// A runner's limits for one request: what is always there for K and V.
fn limits_in(memory: &DeviceMemory, runner: &dyn ModelRunner) -> RunnerLimits {
    let limits = runner.limits();
    let num_blocks = (memory.floor(Side::Kv) / pages_for(runner.block_bytes()).max(1)).min(limits.num_blocks);
    let num_blocks = num_blocks - blocks::reserve_of(num_blocks);
    RunnerLimits { num_blocks, context_length: limits.context_length.min(num_blocks * BLOCK_TOKENS), ..limits }
}
