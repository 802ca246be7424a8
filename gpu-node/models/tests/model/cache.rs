//! K and V from the prefix cache give the same answers as fresh ones, bit for bit.

use std::sync::{Arc, Mutex};

use candle_core::quantized::GgmlDType;
use souk_engine::{Engine, EngineConfig, EngineRequest, RequestHandle};
use souk_models::base::LlamaWeights;
use souk_protocol::{
    Digest, FinishReason, GenerateJob, JobEvent, JobId, LlamaShape, PoolId, RequestId, SamplingParams, TenantId,
    TokenOut, Usage,
};
use souk_queue::{EventSink, Gone};
use souk_runner::DeviceAdapter;

use crate::driver::{runner, start_engine};
use crate::fixtures::smollm2;
use crate::tiny::{AdapterParts, BLOCKY, Random, SMALL, random_adapter, weights};

const WIDE: AdapterParts =
    AdapterParts { rank: 8, attention: true, feed_forward: true, head: false, norms: false, gain: true };
const NARROW: AdapterParts = AdapterParts { rank: 3, feed_forward: false, gain: false, ..WIDE };

pub(crate) type Adapters = Vec<(Arc<DeviceAdapter>, f32)>;

/// A sink that keeps the generated tokens.
#[derive(Clone, Default)]
struct Reader(Arc<Mutex<Vec<TokenOut>>>);

impl EventSink for Reader {
    fn send(&self, event: JobEvent) -> Result<(), Gone> {
        if let JobEvent::Tokens { tokens, .. } = event {
            self.0.lock().unwrap().extend(tokens);
        }
        Ok(())
    }

    fn is_closed(&self) -> bool {
        false
    }
}

/// One request: who asks what with which adapters.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) tenant: &'static str,
    pub(crate) prompt: Vec<u32>,
    pub(crate) adapters: Adapters,
}

/// An engine to ask, with a prefix cache or without.
pub(crate) struct Desk {
    engine: Engine,
}

impl Desk {
    pub(crate) fn new(weights: &Arc<LlamaWeights>, prefix_cache: bool) -> Self {
        let config = EngineConfig { prefix_cache, max_prefill_tokens_beside_decode: 9, ..EngineConfig::default() };
        let (engine, _thread) = start_engine(runner(weights, 2), config);
        Self { engine }
    }

    fn submit(&self, ask: &Ask) -> (RequestHandle, Reader) {
        let reader = Reader::default();
        let job = GenerateJob {
            id: JobId { request: RequestId::new(), index: 0 },
            tenant: TenantId::from_stored(ask.tenant),
            pool: PoolId(Digest::of(b"base")),
            prompt: ask.prompt.clone(),
            resume: Vec::new(),
            adapters: Vec::new(),
            sampling: SamplingParams::greedy(),
            constraint: None,
            max_tokens: 8,
            eos_tokens: Vec::new(),
            logprobs: Some(3),
            prompt_logprobs: None,
            time_left: None,
        };
        let request =
            EngineRequest { job, adapters: ask.adapters.clone(), constraint: None, sink: Box::new(reader.clone()) };
        (self.engine.submit(request).expect("there is room"), reader)
    }

    /// Asks all at once; answers with logprobs, and the counts.
    pub(crate) async fn ask(&self, asks: &[Ask]) -> Vec<(Vec<TokenOut>, Usage)> {
        let mut answers = Vec::new();
        for (mut generation, reader) in asks.iter().map(|ask| self.submit(ask)).collect::<Vec<_>>() {
            let ended = generation.ended().await;
            assert_eq!(ended.outcome, Ok(FinishReason::Length));
            answers.push((std::mem::take(&mut *reader.0.lock().unwrap()), ended.usage));
        }
        answers
    }
}

/// Asks each kind of request fresh, again, in company, and by another tenant.
async fn expect_equal_answers(weights: &Arc<LlamaWeights>, shape: &LlamaShape, prompt_len: usize) {
    let (wide, narrow) = (random_adapter(shape, WIDE, 1), random_adapter(shape, NARROW, 2));
    let sets: [Adapters; 4] =
        [vec![], vec![(Arc::clone(&wide), 1.0)], vec![(Arc::clone(&wide), 0.5)], vec![(narrow, 1.0), (wide, -0.25)]];
    let common = Random::new(5).tokens(prompt_len, shape.vocab_size);
    let asks: Vec<_> = sets
        .into_iter()
        .map(|adapters| Ask { tenant: "a", prompt: [&common[..], &[7, 3]].concat(), adapters })
        .collect();
    let fresh_desk = Desk::new(weights, false);
    let mut fresh = Vec::new();
    for ask in &asks {
        fresh.extend(fresh_desk.ask(std::slice::from_ref(ask)).await);
    }
    let desk = Desk::new(weights, true);
    let num_cached = u32::try_from(prompt_len / 16 * 16).unwrap();
    for (round, expected) in [0, num_cached, num_cached].into_iter().enumerate() {
        for (index, (answer, usage)) in desk.ask(&asks).await.into_iter().enumerate() {
            assert_eq!(answer, fresh[index].0, "round {round}, set {index}");
            assert_eq!(usage.cached_tokens, expected, "round {round}, set {index}");
        }
    }
    // Another end on what is cached, and the first answer as part of the next turn's prompt.
    let answered: Vec<u32> = fresh[1].0.iter().map(|token| token.id).collect();
    for tail in [vec![9], [&[7, 3][..], &answered, &[4]].concat()] {
        let next = [Ask { prompt: [&common[..], &tail].concat(), ..asks[1].clone() }];
        let (answer, usage) = desk.ask(&next).await.remove(0);
        assert!(usage.cached_tokens >= num_cached);
        assert_eq!(answer, fresh_desk.ask(&next).await.remove(0).0);
    }
    let others: Vec<_> = asks.into_iter().map(|ask| Ask { tenant: "b", ..ask }).collect();
    for (index, (answer, usage)) in desk.ask(&others).await.into_iter().enumerate() {
        assert_eq!((answer, usage.cached_tokens), (fresh[index].0.clone(), 0), "another tenant finds nothing");
    }
}

#[tokio::test]
async fn small_models_answer_alike_with_and_without_the_cache() {
    for (shape, dtype) in [(SMALL, GgmlDType::F32), (BLOCKY, GgmlDType::Q4_1)] {
        expect_equal_answers(&weights(shape, dtype), &shape, 52).await;
    }
}

#[tokio::test]
async fn the_real_model_answers_alike_with_and_without_the_cache() {
    let base = smollm2();
    expect_equal_answers(&Arc::new(base.weights), &base.model.shape, 70).await;
}
