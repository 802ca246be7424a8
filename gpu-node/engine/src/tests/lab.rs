//! An engine whose loop a test turns by hand, one step at a time.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use souk_protocol::{Digest, GenerateJob, JobEvent, PoolId, TokenId, TokenLogprobs, TokenOut};
use souk_queue::{EventSink, Gone};
use souk_runner::scripted::{Script, ScriptedRunner, VOCAB};
use souk_runner::{DeviceAdapter, RunnerLimits};
use tokio::sync::oneshot;

use crate::constraint::Constraint;
use crate::device_memory::{DeviceMemory, PAGE_BYTES};
use crate::inbox::Inbox;
use crate::run::EngineLoop;
use crate::sequence::{Sequence, SequenceId};
use crate::{Ended, EngineConfig, EngineError, EngineRequest, EngineStats};

pub(super) const LIMITS: RunnerLimits =
    RunnerLimits { max_rows: 64, max_logit_rows: 16, num_blocks: 64, vocab_size: VOCAB, context_length: 256 };

pub(super) const CONFIG: EngineConfig = EngineConfig {
    threads: 1,
    max_logit_rows: 16,
    speculation: true,
    kv_cache_bytes: None,
    max_sequences: 8,
    max_requests: 64,
    max_batch_tokens: 32,
    max_prefill_tokens_beside_decode: 8,
    max_speculative_tokens: 0,
    prefix_cache: true,
    max_adapter_bytes_per_step: 1 << 20,
};

pub(super) struct Lab {
    pub(super) script: Script,
    pub(super) now: Instant,
    inbox: Arc<Inbox>,
    engine: EngineLoop,
    submitted: bool,
}

/// What a test sees of one request.
pub(super) struct Watch {
    pub(super) job: GenerateJob,
    pub(super) reader: Reader,
    pub(super) id: SequenceId,
    ended: oneshot::Receiver<Ended>,
}

/// A sink that keeps what it gets, until its reader leaves.
#[derive(Clone, Default)]
pub(super) struct Reader {
    pub(super) events: Arc<Mutex<Vec<JobEvent>>>,
    gone: Arc<AtomicBool>,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(CONFIG, LIMITS)
    }

    pub(super) fn with(config: EngineConfig, limits: RunnerLimits) -> Self {
        let memory = DeviceMemory::split(limits.num_blocks * PAGE_BYTES, PAGE_BYTES).unwrap();
        Self::build(config, limits, memory)
    }

    /// An engine whose blocks take a page each of this memory.
    pub(super) fn in_memory(memory: DeviceMemory, limits: RunnerLimits) -> Self {
        Self::build(CONFIG, limits, memory)
    }

    fn build(config: EngineConfig, limits: RunnerLimits, memory: DeviceMemory) -> Self {
        let (inbox, script) = (Arc::new(Inbox::new(config.max_requests, limits)), Script::default());
        let runner = Box::new(ScriptedRunner::new(limits, script.clone()));
        let engine = EngineLoop::new(runner, config, memory, Arc::clone(&inbox));
        Self { script, now: Instant::now(), inbox, engine, submitted: false }
    }

    pub(super) fn submit(&mut self, job: GenerateJob) -> Watch {
        self.submit_with(job, Vec::new())
    }

    pub(super) fn submit_with(&mut self, job: GenerateJob, adapters: Vec<(Arc<DeviceAdapter>, f32)>) -> Watch {
        self.try_submit(job, adapters).expect("it fits")
    }

    pub(super) fn submit_constrained(&mut self, job: GenerateJob, mut constraint: Constraint) -> Watch {
        constraint.follow(&job.resume).expect("it is the beginning of such an answer");
        self.hand_in(job, Vec::new(), Some(constraint)).expect("it fits")
    }

    pub(super) fn try_submit(
        &mut self,
        job: GenerateJob,
        adapters: Vec<(Arc<DeviceAdapter>, f32)>,
    ) -> Result<Watch, EngineError> {
        self.hand_in(job, adapters, None)
    }

    fn hand_in(
        &mut self,
        job: GenerateJob,
        adapters: Vec<(Arc<DeviceAdapter>, f32)>,
        constraint: Option<Constraint>,
    ) -> Result<Watch, EngineError> {
        let reader = Reader::default();
        let request = EngineRequest { job: job.clone(), adapters, constraint, sink: Box::new(reader.clone()) };
        let (sender, ended) = oneshot::channel();
        let counter = Arc::new(AtomicU32::new(0));
        let id = self.inbox.submit(request, counter, sender).map_err(|rejected| rejected.error)?;
        self.submitted = true;
        Ok(Watch { job, reader, id, ended })
    }

    pub(super) fn cancel(&self, watch: &Watch) {
        self.inbox.cancel(watch.id);
    }

    /// Turns the loop once and returns the plan as text.
    pub(super) fn step(&mut self) -> String {
        assert!(self.submitted || !self.engine.is_idle(), "an idle engine would sleep here");
        self.submitted = false;
        self.engine.take_commands();
        self.engine.give_way();
        let plan = self.engine.schedule(self.now);
        self.engine.run_step(&plan);
        self.engine.publish();
        plan.to_string()
    }

    pub(super) fn give_way(&mut self) {
        self.engine.give_way();
    }

    /// Whether the request has a place in the batch.
    pub(super) fn is_in_batch(&self, watch: &Watch) -> bool {
        self.engine.scheduler().running(watch.id).is_some()
    }

    /// Whether it has, and all that is left of its prompt is computed.
    pub(super) fn is_answering(&self, watch: &Watch) -> bool {
        self.engine.scheduler().running(watch.id).is_some_and(Sequence::is_decoding)
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.submitted && self.engine.is_idle()
    }

    pub(super) fn steps(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.step()).collect()
    }

    /// Turns the loop until nothing is left and returns the trace.
    pub(super) fn run(&mut self) -> Vec<String> {
        let mut trace = Vec::new();
        while !self.is_idle() {
            trace.push(self.step());
            assert!(trace.len() < 10_000, "no end in sight: {:?}", &trace[9_990..]);
        }
        assert_eq!(self.stats().num_free_blocks, self.stats().num_blocks, "all blocks are free at the end");
        trace
    }

    pub(super) fn stats(&self) -> EngineStats {
        self.inbox.stats()
    }
}

impl Watch {
    /// Tokens of the answer so far. Checks that they come without gap and repeat.
    pub(super) fn tokens(&self) -> Vec<TokenId> {
        let mut answer = self.job.resume.clone();
        for event in self.reader.events.lock().unwrap().iter() {
            if let JobEvent::Tokens { offset, tokens } = event {
                assert_eq!(*offset as usize, answer.len());
                answer.extend(tokens.iter().map(|token| token.id));
            }
        }
        answer
    }

    /// The answer's new tokens so far, with their logprobs.
    pub(super) fn token_outs(&self) -> Vec<TokenOut> {
        let events = self.reader.events.lock().unwrap();
        let tokens = events.iter().filter_map(|event| match event {
            JobEvent::Tokens { tokens, .. } => Some(tokens.clone()),
            _ => None,
        });
        tokens.flatten().collect()
    }

    pub(super) fn prompt_logprobs(&self) -> Vec<Option<TokenLogprobs>> {
        let events = self.reader.events.lock().unwrap();
        let scores = events.iter().filter_map(|event| match event {
            JobEvent::PromptLogprobs(scores) => Some(scores.clone()),
            _ => None,
        });
        scores.flatten().collect()
    }

    /// How it ended, which it must have.
    pub(super) fn ended(&mut self) -> Ended {
        self.ended.try_recv().expect("the generation has ended")
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.ended.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
    }
}

impl Reader {
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

impl EventSink for Reader {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        if self.is_closed() {
            return Err(Gone);
        }
        self.events.lock().unwrap().push(event);
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

/// A greedy job with a prompt of this length. The prompt's tokens depend on its length alone.
pub(super) fn job(num_prompt: usize, max_tokens: u32) -> GenerateJob {
    GenerateJob {
        prompt: (0..num_prompt).map(|place| ((place * 7 + num_prompt) % 60) as TokenId).collect(),
        max_tokens,
        ..souk_testkit::job::job("tenant", PoolId(Digest::of(b"base")), 0)
    }
}
