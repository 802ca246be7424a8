//! An engine and those who ask it.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use souk_engine::device_memory::{DeviceMemory, PAGE_BYTES};
use souk_engine::{Engine, EngineConfig, EngineRequest, RequestHandle};
use souk_models::llama::LlamaRunner;
use souk_protocol::{AdapterUse, BaseModel, GenerateJob, JobEvent, PoolId, TokenId};
use souk_queue::{EventSink, Gone};
use souk_runner::DeviceAdapter;
use souk_testkit::hash;
use souk_testkit::job::job;

/// An engine under test; it ends with this.
pub(crate) struct Driver {
    engine: Engine,
    thread: Option<JoinHandle<()>>,
    pool: PoolId,
    vocab_size: u32,
}

/// An answer under way.
pub(crate) struct Running {
    pub(crate) handle: RequestHandle,
    /// When each token came.
    pub(crate) tokens: mpsc::Receiver<Instant>,
}

impl Driver {
    pub(crate) fn start(runner: LlamaRunner, config: EngineConfig, model: &BaseModel) -> Self {
        let memory = DeviceMemory::split(runner.kv_bytes(), PAGE_BYTES).expect("there is a page for each side");
        let (engine, thread) = Engine::start(memory, Box::new(runner), config).expect("the engine starts");
        let vocab_size = u32::try_from(model.shape.vocab_size).expect("token ids have 32 bits");
        Self { engine, thread: Some(thread), pool: PoolId(model.digest), vocab_size }
    }

    /// Random tokens; the same for the same seed.
    pub(crate) fn prompt(&self, seed: u64, num_tokens: usize) -> Vec<TokenId> {
        let token = |at: usize| hash(seed * 100_003 + at as u64) % u64::from(self.vocab_size - 64) + 64;
        (0..num_tokens).map(|at| TokenId::try_from(token(at)).expect("below the vocabulary's size")).collect()
    }

    /// A greedy answer of so many tokens, whatever they are.
    pub(crate) fn job(&self, prompt: Vec<TokenId>, max_tokens: u32) -> GenerateJob {
        GenerateJob { prompt, max_tokens, ..job("bench", self.pool, 0) }
    }

    pub(crate) fn submit(&self, mut job: GenerateJob, adapter: Option<&Arc<DeviceAdapter>>) -> Running {
        let adapters: Vec<_> = adapter.map(|adapter| (Arc::clone(adapter), 1.0)).into_iter().collect();
        job.adapters = adapters
            .iter()
            .map(|(one, weight)| AdapterUse { digest: one.digest, weight: *weight, grant: None })
            .collect();
        let (sender, tokens) = mpsc::channel();
        let request = EngineRequest { job, adapters, constraint: None, sink: Box::new(Clock(sender)) };
        let handle = self.engine.submit(request).unwrap_or_else(|rejected| panic!("refused: {}", rejected.error));
        Running { handle, tokens }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.engine.drain();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Running {
    /// Waits for the end and returns when each token came.
    pub(crate) fn finish(mut self) -> Vec<Instant> {
        let ended = futures::executor::block_on(self.handle.ended());
        ended.outcome.unwrap_or_else(|failure| panic!("{failure}"));
        self.tokens.try_iter().collect()
    }
}

/// Notes when each token came.
struct Clock(mpsc::Sender<Instant>);

impl EventSink for Clock {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        match event {
            JobEvent::Tokens { tokens, .. } => {
                tokens.iter().try_for_each(|_| self.0.send(Instant::now())).map_err(|_| Gone)
            }
            JobEvent::Failed(failure) => panic!("{failure}"),
            _ => Ok(()),
        }
    }

    fn is_closed(&self) -> bool {
        false
    }
}
