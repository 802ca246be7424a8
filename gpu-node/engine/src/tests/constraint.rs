//! Constrained answers beside free ones, over a vocabulary of single characters.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use souk_protocol::{ConstraintSpec, FinishReason, GenerateJob, SamplingParams, TenantId, TokenId, TokenizerSpec};
use souk_runner::scripted::{VOCAB, answer};
use souk_testkit::base::{SMALL, base};

use super::lab::*;
use crate::EngineConfig;
use crate::constraint::{Constraint, ConstraintCompiler, ConstraintLimits};

const EOS: TokenId = 62;

/// The constraint over tokens that are the characters from `A` on.
fn compiled(spec: &ConstraintSpec) -> Constraint {
    let mut base = base("tiny", SMALL);
    base.shape.vocab_size = VOCAB;
    base.eos_tokens = vec![EOS];
    let mut tokens: Vec<String> = ('A'..='~').take(62).map(String::from).collect();
    tokens.extend(["<|end|>", "<|other|>"].map(str::to_owned));
    let control_tokens = vec![EOS, EOS + 1];
    base.tokenizer =
        TokenizerSpec::ByteLevelBpe { tokens, control_tokens, merges: Vec::new(), pre: "gpt-2".to_owned() };
    let compiler = ConstraintCompiler::new(Arc::new(base), ConstraintLimits::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(compiler.compile(&TenantId::from_stored("acme"), &Arc::new(spec.clone()))).unwrap()
}

fn constrained(num_prompt: usize, spec: &ConstraintSpec) -> GenerateJob {
    GenerateJob { constraint: Some(Arc::new(spec.clone())), eos_tokens: vec![EOS], ..job(num_prompt, 40) }
}

fn text(tokens: &[TokenId]) -> String {
    tokens.iter().filter(|token| **token < EOS).map(|token| char::from(b'A' + *token as u8)).collect()
}

fn sampled(seed: u64) -> SamplingParams {
    SamplingParams { temperature: 1.0, seed, ..SamplingParams::greedy() }
}

#[test]
fn a_constrained_answer_is_what_it_must_be_and_leaves_the_others_alone() {
    let spec = ConstraintSpec::Regex("(AB|CD){3}[x-z]".to_owned());
    for max_speculative_rows in [0, 8] {
        let mut lab = Lab::with(EngineConfig { max_speculative_tokens: max_speculative_rows, ..CONFIG }, LIMITS);
        let free = lab.submit(job(9, 30));
        let mut watches: Vec<_> = (0..4)
            .map(|seed| {
                let sampling = if seed == 0 { SamplingParams::greedy() } else { sampled(seed) };
                let job = GenerateJob { sampling, logprobs: Some(2), ..constrained(4 + seed as usize, &spec) };
                lab.submit_constrained(job, compiled(&spec))
            })
            .collect();
        lab.run();
        for watch in &mut watches {
            let text = text(&watch.tokens());
            let pairs = text.as_bytes()[..6].chunks(2).all(|pair| pair == b"AB" || pair == b"CD");
            assert!(pairs && text.len() == 7 && text.ends_with(['x', 'y', 'z']), "{text}");
            assert_eq!(watch.ended().outcome, Ok(FinishReason::Stop), "nothing may follow");
        }
        assert_eq!(free.tokens(), answer(&free.job.prompt, &[], 30));
    }
}

#[test]
fn an_answer_ends_by_the_end_token_only_where_it_may() {
    let spec = ConstraintSpec::Regex("A+B".to_owned());
    for seed in 0..20 {
        let mut lab = Lab::new();
        let mut watch =
            lab.submit_constrained(GenerateJob { sampling: sampled(seed), ..constrained(3, &spec) }, compiled(&spec));
        lab.run();
        let text = text(&watch.tokens());
        match watch.ended().outcome {
            Ok(FinishReason::Stop) => assert!(text.ends_with('B') && text[..text.len() - 1].bytes().all(|b| b == b'A')),
            Ok(FinishReason::Length) => assert_eq!(text, "A".repeat(40)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_continued_answer_goes_on_as_the_uninterrupted_one() {
    let spec = ConstraintSpec::Regex("[A-Z]{5}[a-f]{5}".to_owned());
    let whole = GenerateJob { sampling: sampled(3), ..constrained(5, &spec) };
    let mut lab = Lab::new();
    let watch = lab.submit_constrained(whole.clone(), compiled(&spec));
    lab.run();
    let tokens = watch.tokens();
    assert_eq!(tokens.len(), 10);
    for num_resumed in [1, 6, 10] {
        let resumed = GenerateJob { resume: tokens[..num_resumed].to_vec(), ..whole.clone() };
        let mut watch = lab.submit_constrained(resumed, compiled(&spec));
        lab.run();
        assert_eq!(watch.tokens(), tokens);
        assert_eq!(watch.ended().outcome, Ok(FinishReason::Stop));
    }
}

#[test]
fn drafts_under_a_constraint_change_no_token_and_no_logprob() {
    let spec = ConstraintSpec::Regex("([A-J]{2,4}k)+".to_owned());
    let mut num_accepted = 0;
    for seed in 0..6 {
        let sampling = SamplingParams { top_k: 2, temperature: 0.3, ..sampled(seed) };
        let job = GenerateJob { sampling, logprobs: Some(2), max_tokens: 100, ..constrained(5, &spec) };
        let mut said = Vec::new();
        for max_speculative_rows in [0, 8] {
            let mut lab = Lab::with(EngineConfig { max_speculative_tokens: max_speculative_rows, ..CONFIG }, LIMITS);
            lab.script.short_memory.store(true, Ordering::SeqCst);
            let mut watch = lab.submit_constrained(job.clone(), compiled(&spec));
            lab.run();
            num_accepted += lab.stats().num_accepted;
            said.push((watch.token_outs(), watch.ended().outcome));
        }
        assert_eq!(said[0], said[1], "seed {seed}");
        assert!(said[0].0.iter().all(|token| token.logprobs.as_ref().is_some_and(|one| one.top.len() == 2)));
    }
    assert!(num_accepted > 0, "no drafted token was accepted");
}

#[test]
fn a_cancelled_constrained_answer_makes_room_for_the_next_at_once() {
    // Longer than the answer may be: it must not be over before it is cancelled.
    let spec = ConstraintSpec::Regex("(AB){30}".to_owned());
    let mut lab = Lab::with(EngineConfig { max_sequences: 1, ..CONFIG }, LIMITS);
    let mut endless = lab.submit_constrained(constrained(4, &spec), compiled(&spec));
    let mut free = lab.submit(job(5, 8));
    lab.steps(6);
    assert!(endless.is_running() && free.is_running() && free.tokens().is_empty());
    lab.cancel(&endless);
    lab.step();
    assert_eq!(endless.ended().outcome, Ok(FinishReason::Cancelled));
    assert!("ABABABABABAB".starts_with(&text(&endless.tokens())));
    lab.run();
    assert_eq!(free.tokens(), answer(&free.job.prompt, &[], 8));
    assert_eq!(free.ended().outcome, Ok(FinishReason::Length));
}
