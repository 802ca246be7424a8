//! Constrained answers of the real model beside free ones: each meets its constraint, and nobody's bits depend on it.

use std::sync::Arc;

use serde_json::{Value, json};
use souk_engine::EngineStats;
use souk_engine::constraint::{ConstraintCompiler, ConstraintLimits};
use souk_engine::{EngineConfig, EngineRequest};
use souk_models::base::{LlamaWeights, LoadedBase};
use souk_protocol::{
    ConstraintSpec, Digest, FinishReason, GenerateJob, JobFailure, JobId, PoolId, RequestId, SamplingParams, TenantId,
    Vocabulary,
};
use souk_runner::DeviceAdapter;

use crate::driver::{runner, start_engine};
use crate::fixtures::smollm2;
use crate::mixes::{Answer, Reader, plain};
use crate::tiny::{AdapterParts, Random, random_adapter};

/// Letters that may be left out, one after another: the set of a token after the first ones is more work than allowed.
fn explodes() -> ConstraintSpec {
    regex(&format!("x{{20}}{}", "a?".repeat(690)))
}

type Adapters = Vec<(Arc<DeviceAdapter>, f32)>;

/// The model, and what compiles constraints for it.
struct Desk {
    weights: Arc<LlamaWeights>,
    vocabulary: Vocabulary,
    eos_tokens: Vec<u32>,
    compiler: ConstraintCompiler,
    runtime: tokio::runtime::Runtime,
}

impl Desk {
    fn new() -> Self {
        let LoadedBase { model, weights } = smollm2();
        Self {
            weights: Arc::new(weights),
            vocabulary: Vocabulary::of(&model.tokenizer).unwrap(),
            eos_tokens: model.eos_tokens.clone(),
            compiler: ConstraintCompiler::new(Arc::new(model), ConstraintLimits::default()),
            runtime: tokio::runtime::Runtime::new().unwrap(),
        }
    }

    fn job(&self, prompt: u64, constraint: Option<ConstraintSpec>) -> GenerateJob {
        GenerateJob {
            id: JobId { request: RequestId::new(), index: 0 },
            tenant: TenantId::from_stored("tenant"),
            pool: PoolId(Digest::of(b"base")),
            prompt: Random::new(prompt).tokens(20, self.weights.shape.vocab_size),
            resume: Vec::new(),
            adapters: Vec::new(),
            sampling: SamplingParams::greedy(),
            constraint: constraint.map(Arc::new),
            max_tokens: 90,
            eos_tokens: self.eos_tokens.clone(),
            logprobs: None,
            prompt_logprobs: None,
            time_left: None,
        }
    }

    /// Runs requests that arrive at once.
    fn run(
        &self,
        config: EngineConfig,
        requests: &[(GenerateJob, Adapters)],
    ) -> (Vec<Result<Answer, JobFailure>>, EngineStats) {
        let (engine, thread) = start_engine(runner(&self.weights, 2), config);
        let submit = |(job, adapters): &(GenerateJob, Adapters)| {
            let compile = async |spec| self.compiler.compile_after(&job.tenant, spec, &job.resume).await.unwrap();
            let constraint = job.constraint.as_ref().map(|spec| self.runtime.block_on(compile(spec)));
            let reader = Reader::default();
            let sink = Box::new(reader.clone());
            let request = EngineRequest { job: job.clone(), adapters: adapters.clone(), constraint, sink };
            (engine.submit(request).unwrap(), reader)
        };
        let running: Vec<_> = requests.iter().map(submit).collect();
        let answers = running.into_iter().map(|(mut generation, reader)| {
            let ended = futures::executor::block_on(generation.ended());
            ended.outcome.map(|_| reader.answer())
        });
        let answers = answers.collect();
        engine.drain();
        thread.join().unwrap();
        (answers, engine.stats())
    }

    fn text(&self, answer: &Answer) -> String {
        let tokens = answer.tokens.iter().map(|token| token.id).filter(|id| !self.eos_tokens.contains(id));
        String::from_utf8(tokens.flat_map(|id| self.vocabulary.bytes(id).to_vec()).collect()).unwrap()
    }
}

fn schema() -> ConstraintSpec {
    let schema = json!({
        "type": "object",
        "properties": {
            "kind": {"enum": ["city", "river"]},
            "people": {"type": "integer", "minimum": 0, "maximum": 99_999_999},
            "names": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 2},
        },
        "required": ["kind", "people", "names"],
        "additionalProperties": false,
        // A prompt of random tokens makes for much white space.
        "x-guidance": {"whitespace_flexible": false},
    });
    ConstraintSpec::JsonSchema(schema.to_string())
}

fn regex(source: &str) -> ConstraintSpec {
    ConstraintSpec::Regex(source.to_owned())
}

fn expect_object(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(["city", "river"].contains(&value["kind"].as_str().unwrap()), "{text}");
    assert!((0..=99_999_999).contains(&value["people"].as_i64().unwrap()), "{text}");
    let names = value["names"].as_array().unwrap();
    assert!((1..=2).contains(&names.len()), "{text}");
    assert!(names.iter().all(|name| name.as_str().unwrap().chars().count() <= 12), "{text}");
    assert_eq!(value.as_object().unwrap().len(), 3, "{text}");
}

fn expect_code(text: &str) {
    let (letters, digits) = text.split_once('-').unwrap_or_else(|| panic!("{text}"));
    assert!((2..=5).contains(&letters.len()) && letters.bytes().all(|byte| byte.is_ascii_uppercase()), "{text}");
    assert!(digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
}

#[test]
fn constrained_and_free_answers_share_steps_without_a_trace() {
    let desk = Desk::new();
    let parts = AdapterParts { rank: 8, attention: true, feed_forward: true, head: false, norms: false, gain: false };
    let adapter: Adapters = vec![(random_adapter(&desk.weights.shape, parts, 1), 1.0)];
    let sampled = SamplingParams { temperature: 0.8, top_p: 0.95, seed: 7, ..SamplingParams::greedy() };
    let code = || regex("[A-Z]{2,5}-[0-9]{4}");
    let requests = [
        (desk.job(1, None), vec![]),
        (desk.job(2, Some(schema())), vec![]),
        (GenerateJob { logprobs: Some(3), ..desk.job(3, Some(schema())) }, adapter.clone()),
        (GenerateJob { sampling: sampled.clone(), logprobs: Some(2), ..desk.job(4, Some(code())) }, vec![]),
        (GenerateJob { sampling: sampled.clone(), ..desk.job(5, None) }, adapter.clone()),
        (desk.job(6, Some(code())), adapter),
        (GenerateJob { logprobs: Some(1), ..desk.job(7, None) }, vec![]),
        (desk.job(8, Some(explodes())), vec![]),
    ];
    let alone = desk.run(plain(), &requests).0;
    for speculation in [0, 16] {
        let config = EngineConfig {
            max_sequences: 8,
            max_batch_tokens: 48,
            max_speculative_tokens: speculation,
            prefix_cache: true,
            ..plain()
        };
        let (mixed, stats) = desk.run(config, &requests);
        assert!(mixed == alone, "up to {speculation} drafted tokens:\n{mixed:?}\n{alone:?}");
        assert_eq!(stats.num_drafted > 0, speculation > 0, "up to {speculation} drafted tokens");
    }
    let text = |index: usize| desk.text(alone[index].as_ref().unwrap());
    [1, 2].into_iter().for_each(|index| expect_object(&text(index)));
    [3, 5].into_iter().for_each(|index| expect_code(&text(index)));
    for (index, num_top) in [(2, 3), (3, 2), (6, 1)] {
        let answer = alone[index].as_ref().unwrap();
        let num_reported = |token: &souk_protocol::TokenOut| token.logprobs.as_ref().map(|one| one.top.len());
        assert!(answer.tokens.iter().all(|token| num_reported(token) == Some(num_top)));
    }
    let Err(JobFailure::ConstraintLimit { num_tokens, reason }) = &alone[7] else { panic!("{:?}", alone[7]) };
    assert!((1..=20).contains(num_tokens) && reason.contains("too complex"), "{num_tokens}: {reason}");
}

#[test]
fn a_continued_answer_of_the_real_model_ends_as_the_whole_one() {
    let desk = Desk::new();
    let whole = desk.job(2, Some(schema()));
    let expected = desk.run(plain(), &[(whole.clone(), vec![])]).0.remove(0).unwrap();
    assert_eq!(expected.reason, FinishReason::Stop);
    let resume: Vec<u32> = expected.tokens[..9].iter().map(|token| token.id).collect();
    let rest = desk.run(plain(), &[(GenerateJob { resume, ..whole }, vec![])]).0.remove(0).unwrap();
    assert_eq!((&rest.tokens[..], rest.reason), (&expected.tokens[9..], expected.reason));
}
