//! Speculation changes how many steps an answer takes, and nothing else.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use souk_protocol::{FinishReason, GenerateJob, SamplingParams, TokenId, TokenOut};
use souk_runner::RunnerLimits;
use souk_runner::scripted::POISON;

use super::lab::*;
use crate::EngineConfig;

/// An engine over a model that repeats itself, so that many drafted tokens are accepted and many are not.
fn lab(max_speculative_rows: usize) -> Lab {
    lab_with(EngineConfig { max_speculative_tokens: max_speculative_rows, ..CONFIG }, LIMITS)
}

fn lab_with(config: EngineConfig, limits: RunnerLimits) -> Lab {
    let lab = Lab::with(config, limits);
    lab.script.short_memory.store(true, Ordering::SeqCst);
    lab
}

fn sampled(seed: u64) -> SamplingParams {
    SamplingParams { temperature: 0.6, top_k: 3, seed, ..SamplingParams::greedy() }
}

/// What the model answers without speculation.
fn plain(job: GenerateJob) -> Vec<TokenId> {
    let mut lab = lab(0);
    let watch = lab.submit(job);
    lab.run();
    watch.tokens()
}

#[test]
fn an_answer_that_repeats_itself_takes_fewer_steps() {
    let expected = plain(job(5, 120));
    let mut lab = lab(8);
    let watch = lab.submit(job(5, 120));
    let trace = lab.run();
    assert_eq!(watch.tokens(), expected);
    let stats = lab.stats();
    assert!(trace.len() < 80, "{} steps", trace.len());
    assert_eq!(trace.len() as u64 + stats.num_accepted, 120, "each accepted token saves a step");
    assert!(stats.num_drafted > stats.num_accepted, "some drafted tokens were rejected");
    assert_eq!((stats.num_generated, stats.num_prefill_rows), (120, 5));
    assert!(trace.iter().any(|step| step.contains("..")), "{trace:?}");
}

#[test]
fn an_end_inside_a_draft_ends_the_answer_there() {
    let text = plain(job(5, 120));
    let mut longest = 0;
    for length in 2..60 {
        // A token that first comes at this place ends the answer; so does the bound at the same place.
        let by_bound = job(5, length as u32);
        let mut by_token = job(5, 120);
        let is_new = !text[..length - 1].contains(&text[length - 1]);
        by_token.eos_tokens = if is_new { vec![text[length - 1]] } else { vec![POISON] };
        let mut lab = lab(8);
        let (mut by_bound, mut by_token) = (lab.submit(by_bound), lab.submit(by_token));
        let trace = lab.run();
        assert_eq!(by_bound.tokens(), text[..length]);
        assert_eq!(by_bound.ended().outcome, Ok(FinishReason::Length));
        let (tokens, reason) =
            if is_new { (&text[..length], FinishReason::Stop) } else { (&text[..], FinishReason::Length) };
        assert_eq!(by_token.tokens(), tokens);
        assert_eq!(by_token.ended().outcome, Ok(reason));
        longest = longest.max(trace.len());
    }
    assert!(longest < 120);
}

#[test]
fn a_step_without_room_drafts_nothing() {
    // Three answers share eight rows; a prompt that comes in or waits takes precedence over drafts.
    let mut lab = lab_with(EngineConfig { max_speculative_tokens: 8, max_sequences: 4, ..CONFIG }, LIMITS);
    let _answers: Vec<_> = (0..3).map(|_| lab.submit(job(5, 200))).collect();
    let rows = |step: &str| -> usize {
        let parts = step.split(' ').map(|part| part.split_once(':').unwrap().1.split_once(".."));
        parts
            .map(|range| range.map_or(1, |(from, to)| to.parse::<usize>().unwrap() - from.parse::<usize>().unwrap()))
            .sum()
    };
    let before: Vec<usize> = lab.steps(80).iter().skip(1).map(|step| rows(step)).collect();
    assert!(before.iter().all(|rows| *rows <= 8) && before.contains(&8), "{before:?}");
    let _late = [lab.submit(job(20, 9)), lab.submit(job(20, 9))];
    for step in lab.steps(8) {
        let is_draft = |part: &str| part.contains("..") && !part.starts_with("3:") && !part.starts_with("4:");
        assert!(!step.split(' ').any(is_draft), "{step}");
    }
}

#[test]
fn a_cancelled_answer_is_a_beginning_of_the_whole_one() {
    let expected = plain(job(5, 120));
    for num_steps in 1..30 {
        let mut lab = lab(8);
        let mut watch = lab.submit(job(5, 120));
        lab.steps(num_steps);
        lab.cancel(&watch);
        lab.step();
        assert_eq!(watch.ended().outcome, Ok(FinishReason::Cancelled));
        assert!(expected.starts_with(&watch.tokens()) && watch.tokens().len() >= num_steps);
        assert_eq!(lab.stats().num_free_blocks, lab.stats().num_blocks);
    }
}

#[derive(Clone, Debug)]
struct Request {
    num_prompt: usize,
    max_tokens: u32,
    sampling: SamplingParams,
    logprobs: Option<u8>,
    prompt_logprobs: Option<u8>,
    eos: Option<TokenId>,
}

fn request() -> impl Strategy<Value = Request> {
    let sampling = prop_oneof![
        Just(SamplingParams::greedy()),
        any::<u64>().prop_map(sampled),
        any::<u64>().prop_map(|seed| SamplingParams {
            repetition_penalty: 1.3,
            frequency_penalty: 0.2,
            ..sampled(seed)
        }),
        Just(SamplingParams { presence_penalty: 1.5, ..SamplingParams::greedy() }),
    ];
    let logprobs = prop::option::weighted(0.3, 0..4_u8);
    (1..60_usize, 0..90_u32, sampling, logprobs.clone(), logprobs, prop::option::of(0..60_u32)).prop_map(
        |(num_prompt, max_tokens, sampling, logprobs, prompt_logprobs, eos)| Request {
            num_prompt,
            max_tokens,
            sampling,
            logprobs,
            prompt_logprobs,
            eos,
        },
    )
}

impl Request {
    fn job(&self) -> GenerateJob {
        let Self { num_prompt, max_tokens, sampling, logprobs, prompt_logprobs, eos } = self.clone();
        let eos_tokens = eos.into_iter().collect();
        GenerateJob { sampling, logprobs, prompt_logprobs, eos_tokens, ..job(num_prompt, max_tokens) }
    }

    /// Tokens with their logprobs, and the end, of this request without others and without drafts.
    fn alone(&self) -> (Vec<TokenOut>, FinishReason) {
        let mut lab = lab(0);
        let mut watch = lab.submit(self.job());
        lab.run();
        (watch.token_outs(), watch.ended().outcome.unwrap())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn speculation_changes_no_token_and_no_logprob(
        requests in prop::collection::vec((0..20_usize, request()), 1..8),
        max_sequences in 1..8_usize,
        max_logit_rows in 1..16_usize,
        max_speculative_rows in 2..14_usize,
        num_blocks in 10..40_usize,
    ) {
        let config = EngineConfig { max_sequences, max_speculative_tokens: max_speculative_rows, ..CONFIG };
        let mut lab = lab_with(config, RunnerLimits { max_logit_rows, num_blocks, ..LIMITS });
        let mut watches = Vec::new();
        for (after, request) in &requests {
            for _ in 0..*after {
                if lab.stats().num_running > 0 {
                    lab.step();
                }
            }
            watches.push(lab.submit(request.job()));
        }
        lab.run();
        for ((_, request), watch) in requests.iter().zip(&mut watches) {
            let (tokens, reason) = request.alone();
            prop_assert_eq!(watch.token_outs(), tokens);
            prop_assert_eq!(watch.ended().outcome, Ok(reason));
        }
    }
}
