//! The engine over the model: what a request gets does not depend on what else runs, on chunks, on drafts, or on what
//! an earlier request left in the prefix cache.

use std::sync::{Arc, Mutex};

use candle_core::quantized::GgmlDType;
use souk_engine::EngineStats;
use souk_engine::{EngineConfig, EngineRequest};
use souk_models::base::LlamaWeights;
use souk_protocol::{
    AdapterUse, Digest, FinishReason, GenerateJob, JobEvent, JobId, LlamaShape, PoolId, RequestId, SamplingParams,
    TenantId, TokenLogprobs, TokenOut,
};
use souk_queue::{EventSink, Gone};
use souk_runner::DeviceAdapter;

use crate::driver::{runner, start_engine};
use crate::fixtures::smollm2;
use crate::tiny::{AdapterParts, BLOCKY, Random, SMALL, random_adapter, weights};

/// One at a time, in large steps, without drafts and without a cache.
pub(crate) fn plain() -> EngineConfig {
    EngineConfig {
        max_sequences: 1,
        max_requests: 99,
        max_batch_tokens: 256,
        max_speculative_tokens: 0,
        prefix_cache: false,
        ..EngineConfig::default()
    }
}

#[derive(Clone)]
struct Request {
    job: GenerateJob,
    adapters: Vec<(Arc<DeviceAdapter>, f32)>,
}

/// All that a client sees of an answer, to the bit: the tokens and logprobs compare as floats, of which none is NaN.
#[derive(Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) prompt_logprobs: Vec<Option<TokenLogprobs>>,
    pub(crate) tokens: Vec<TokenOut>,
    pub(crate) reason: FinishReason,
}

#[derive(Clone, Default)]
pub(crate) struct Reader(Arc<Mutex<Vec<JobEvent>>>);

impl EventSink for Reader {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        self.0.lock().unwrap().push(event);
        Ok(())
    }

    fn is_closed(&self) -> bool {
        false
    }
}

impl Reader {
    pub(crate) fn answer(&self) -> Answer {
        let mut answer = Answer { prompt_logprobs: vec![], tokens: vec![], reason: FinishReason::Cancelled };
        for event in self.0.lock().unwrap().drain(..) {
            match event {
                JobEvent::PromptLogprobs(scores) => answer.prompt_logprobs.extend(scores),
                JobEvent::Tokens { tokens, .. } => answer.tokens.extend(tokens),
                JobEvent::Finished { reason, .. } => answer.reason = reason,
                _ => {}
            }
        }
        answer
    }
}

/// Runs requests that arrive at once.
fn run(weights: &Arc<LlamaWeights>, config: EngineConfig, requests: &[Request]) -> (Vec<Answer>, EngineStats) {
    let (engine, thread) = start_engine(runner(weights, 2), config);
    let submit = |Request { job, adapters }: &Request| {
        let reader = Reader::default();
        let request = EngineRequest {
            job: job.clone(),
            adapters: adapters.clone(),
            constraint: None,
            sink: Box::new(reader.clone()),
        };
        (engine.submit(request).unwrap(), reader)
    };
    let mut running: Vec<_> = requests.iter().map(submit).collect();
    let end = |(generation, reader): &mut (souk_engine::RequestHandle, Reader)| {
        let ended = futures::executor::block_on(generation.ended());
        assert!(ended.outcome.is_ok(), "{:?}", ended.outcome);
        reader.answer()
    };
    let answers = running.iter_mut().map(end).collect();
    engine.drain();
    thread.join().unwrap();
    (answers, engine.stats())
}

/// Draws requests of every kind. Prompts share beginnings and repeat themselves, so that cache and drafts have work.
struct Mixer {
    random: Random,
    vocab_size: usize,
    beginning: Vec<u32>,
    adapters: Vec<Vec<(Arc<DeviceAdapter>, f32)>>,
}

impl Mixer {
    fn new(shape: &LlamaShape, seed: u64) -> Self {
        let parts =
            AdapterParts { rank: 8, attention: true, feed_forward: true, head: false, norms: false, gain: false };
        let plain = random_adapter(shape, parts, 1);
        let narrow = random_adapter(shape, AdapterParts { rank: 3, feed_forward: false, ..parts }, 2);
        let gained = random_adapter(shape, AdapterParts { rank: 16, gain: true, ..parts }, 3);
        let whole = random_adapter(shape, AdapterParts { rank: 5, head: true, norms: true, ..parts }, 4);
        let adapters = vec![
            vec![],
            vec![(Arc::clone(&plain), 1.0)],
            vec![(Arc::clone(&gained), 1.0)],
            vec![(plain, 0.5), (Arc::clone(&narrow), 1.25), (Arc::clone(&whole), 0.75)],
            vec![(whole, 1.0)],
            vec![(gained, 0.5), (narrow, -1.0)],
        ];
        let mut random = Random::new(seed);
        Self { beginning: random.tokens(40, shape.vocab_size), random, vocab_size: shape.vocab_size, adapters }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.tokens(1, end)[0] as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn sampling(&mut self) -> SamplingParams {
        let seed = self.below(1000) as u64;
        let sampled = SamplingParams { temperature: 0.7, seed, ..SamplingParams::greedy() };
        match self.below(6) {
            0 => sampled,
            1 => SamplingParams { top_p: 0.8, min_p: 0.02, ..sampled },
            2 => SamplingParams { top_k: 5, repetition_penalty: 1.2, ..sampled },
            _ => SamplingParams::greedy(),
        }
    }

    fn request(&mut self, max_tokens: usize) -> Request {
        let num_shared = self.below(self.beginning.len() + 1);
        let mut prompt = self.beginning[..num_shared].to_vec();
        let len = 1 + self.below(30);
        let own = self.random.tokens(len, self.vocab_size);
        prompt.extend(&own);
        if self.one_in(2) {
            prompt.extend(&own);
        }
        let set = self.below(self.adapters.len());
        let adapters = self.adapters[set].clone();
        let eos_tokens = if self.one_in(3) { self.random.tokens(3, self.vocab_size) } else { vec![] };
        let job = GenerateJob {
            id: JobId { request: RequestId::new(), index: 0 },
            tenant: TenantId::from_stored("tenant"),
            pool: PoolId(Digest::of(b"base")),
            resume: Vec::new(),
            adapters: adapters
                .iter()
                .map(|(one, weight)| AdapterUse { digest: one.digest, weight: *weight, grant: None })
                .collect(),
            sampling: self.sampling(),
            max_tokens: self.below(max_tokens + 1) as u32,
            eos_tokens,
            logprobs: self.one_in(3).then_some(3),
            prompt_logprobs: self.one_in(5).then_some(1),
            constraint: None,
            time_left: None,
            prompt,
        };
        Request { job, adapters }
    }

    fn config(&mut self) -> EngineConfig {
        EngineConfig {
            max_sequences: 1 + self.below(8),
            max_batch_tokens: 8 + self.below(90),
            max_prefill_tokens_beside_decode: 1 + self.below(40),
            max_speculative_tokens: [0, 4, 8, 16][self.below(4)],
            prefix_cache: self.one_in(2),
            ..plain()
        }
    }
}

/// What many mixes have used of what they should be indifferent to.
#[derive(Default)]
struct Use {
    num_accepted: u64,
    num_rejected: u64,
    num_cached: u64,
}

fn expect_the_same_alone_and_mixed(
    weights: &Arc<LlamaWeights>,
    mixer: &mut Mixer,
    config: impl Fn(&mut Mixer) -> EngineConfig,
    num_mixes: usize,
    max_tokens: usize,
) -> Use {
    let mut used = Use::default();
    for mix in 0..num_mixes {
        let num_requests = 2 + mixer.below(7);
        let requests: Vec<_> = (0..num_requests).map(|_| mixer.request(max_tokens)).collect();
        let (expected, stats) = run(weights, plain(), &requests);
        assert_eq!((stats.num_drafted, stats.reuse.num_found), (0, 0));
        let config = config(mixer);
        let (answers, stats) = run(weights, config, &requests);
        for ((answer, expected), Request { job, .. }) in answers.iter().zip(&expected).zip(&requests) {
            assert_eq!(answer, expected, "mix {mix} under {config:?}: {job:?}");
        }
        used.num_accepted += stats.num_accepted;
        used.num_rejected += stats.num_drafted - stats.num_accepted;
        used.num_cached += stats.reuse.num_found;
    }
    used
}

#[test]
fn an_answer_is_the_same_to_the_bit_in_any_mix() {
    for (seed, shape, dtype) in [(1, SMALL, GgmlDType::F32), (2, BLOCKY, GgmlDType::Q4_1), (3, BLOCKY, GgmlDType::Q4K)]
    {
        let mut mixer = Mixer::new(&shape, seed);
        let used = expect_the_same_alone_and_mixed(&weights(shape, dtype), &mut mixer, Mixer::config, 25, 60);
        assert!(used.num_accepted > 0 && used.num_rejected > 0 && used.num_cached > 0, "{dtype:?}");
    }
}

#[test]
fn the_real_model_answers_the_same_to_the_bit_in_any_mix() {
    let weights = Arc::new(smollm2().weights);
    let mut mixer = Mixer::new(&weights.shape, 4);
    let config = |mixer: &mut Mixer| EngineConfig { max_speculative_tokens: 16, prefix_cache: true, ..mixer.config() };
    let used = expect_the_same_alone_and_mixed(&weights, &mut mixer, config, 2, 40);
    assert!(used.num_accepted + used.num_rejected > 0 && used.num_cached > 0);
}
