//! Logprobs of the prompt (`echo`), as evaluation harnesses ask for them.

use souk_protocol::{FinishReason, TokenLogprobs, Usage};
use souk_runner::RunnerLimits;
use souk_runner::scripted::answer;

use super::lab::*;
use crate::EngineConfig;

fn scored(num_prompt: usize, max_tokens: u32) -> souk_protocol::GenerateJob {
    let mut job = job(num_prompt, max_tokens);
    job.prompt_logprobs = Some(2);
    job.logprobs = Some(2);
    job
}

/// Scores by a step per token: what each prompt token's logprob has to be.
fn scores(prompt: &[u32]) -> Vec<Option<TokenLogprobs>> {
    let mut scores = vec![None];
    for end in 1..prompt.len() {
        let mut lab = Lab::new();
        let mut one = scored(2, 1);
        one.prompt = prompt[..=end].to_vec();
        let watch = lab.submit(one);
        lab.run();
        scores.push(watch.prompt_logprobs().pop().unwrap());
    }
    scores
}

#[test]
fn a_prompt_is_scored_in_order_with_none_for_its_first_token() {
    let mut lab = Lab::new();
    let watch = lab.submit(scored(12, 3));
    lab.run();
    let logprobs = watch.prompt_logprobs();
    assert_eq!(logprobs.len(), 12);
    assert_eq!(logprobs[0], None);
    assert_eq!(logprobs, scores(&watch.job.prompt));
    assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 3));
    for (place, score) in logprobs.iter().enumerate().skip(1) {
        let TokenLogprobs { logprob, top } = score.as_ref().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(top[0].0, answer(&watch.job.prompt[..place], &[], 1)[0]);
        assert!(top[0].1 >= top[1].1 && *logprob <= top[0].1 && top[0].1 < 0.0);
    }
}

#[test]
fn scoring_keeps_to_the_bound_on_logit_rows_and_gives_the_same() {
    let run = |max_logit_rows: usize, max_rows: usize| {
        let limits = RunnerLimits { max_logit_rows, ..LIMITS };
        let mut lab = Lab::with(EngineConfig { max_batch_tokens: max_rows, max_sequences: 2, ..CONFIG }, limits);
        let beside = lab.submit(job(3, 30));
        let watch = lab.submit(scored(40, 2));
        let trace = lab.run();
        assert_eq!(beside.tokens(), answer(&beside.job.prompt, &[], 30));
        (watch.prompt_logprobs(), watch.tokens(), trace.len())
    };
    let (logprobs, tokens, _) = run(64, 64);
    assert_eq!(logprobs.len(), 40);
    for (max_logit_rows, max_rows) in [(2, 64), (3, 7), (16, 5), (5, 32)] {
        let (other_logprobs, other_tokens, _) = run(max_logit_rows, max_rows);
        assert_eq!((other_logprobs, other_tokens), (logprobs.clone(), tokens.clone()), "{max_logit_rows} {max_rows}");
    }
}

#[test]
fn a_job_of_no_tokens_only_scores() {
    for num_prompt in [1, 2, 17, 40] {
        let mut lab = Lab::new();
        let mut watch = lab.submit(scored(num_prompt, 0));
        lab.run();
        assert_eq!(watch.prompt_logprobs(), scores(&watch.job.prompt), "{num_prompt}");
        assert_eq!(watch.tokens(), [0_u32; 0]);
        let ended = watch.ended();
        let usage = Usage { prompt_tokens: num_prompt as u32, cached_tokens: 0, completion_tokens: 0 };
        assert_eq!((ended.outcome, ended.usage), (Ok(FinishReason::Length), usage));
    }
}

#[test]
fn a_prompt_that_fills_the_context_can_be_scored() {
    let mut lab = Lab::new();
    let watch = lab.submit(scored(LIMITS.context_length, 0));
    lab.run();
    assert_eq!(watch.prompt_logprobs().len(), LIMITS.context_length);
}

#[test]
fn echo_with_one_token_scores_the_prompt_and_the_token() {
    // lm-evaluation-harness asks for max_tokens 1 and drops the token.
    for num_prompt in [1, 9] {
        let mut lab = Lab::new();
        let watch = lab.submit(scored(num_prompt, 1));
        lab.run();
        assert_eq!(watch.prompt_logprobs(), scores(&watch.job.prompt));
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 1));
    }
}

#[test]
fn scoring_survives_preemption_and_resumption() {
    let mut lab = Lab::with(CONFIG, RunnerLimits { num_blocks: 5, max_logit_rows: 9, ..LIMITS });
    let older = lab.submit(job(14, 50));
    let watch = lab.submit(scored(30, 30));
    lab.run();
    assert!(lab.stats().num_preempted > 0);
    assert_eq!(older.tokens(), answer(&older.job.prompt, &[], 50));
    assert_eq!(watch.prompt_logprobs(), scores(&watch.job.prompt));
    let mut resumed = watch.job.clone();
    resumed.resume = watch.tokens()[..7].to_vec();
    let resumed = lab.submit(resumed);
    lab.run();
    assert_eq!(resumed.prompt_logprobs(), watch.prompt_logprobs(), "the receiver drops what it has");
    assert_eq!(resumed.tokens(), watch.tokens());
}
