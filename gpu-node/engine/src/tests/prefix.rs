//! The prefix cache: what is computed once, for whom, and that no answer changes.

use souk_protocol::{GenerateJob, TenantId, TokenId};
use souk_runner::RunnerLimits;
use souk_runner::scripted::{adapter, answer};

use super::lab::*;
use crate::EngineConfig;

/// A job of `tenant` whose prompt begins with `num_common` tokens that all have, and ends in some of its own.
fn chat(tenant: &str, num_common: usize, own: &[TokenId], max_tokens: u32) -> GenerateJob {
    let mut job = job(1, max_tokens);
    job.tenant = TenantId::from_stored(tenant);
    job.prompt = (0..num_common).map(|place| (place % 50) as TokenId).chain(own.iter().copied()).collect();
    job
}

#[test]
fn a_prompt_is_taken_from_the_cache_but_for_its_last_token() {
    let mut lab = Lab::new();
    let first = lab.submit(chat("a", 48, &[], 2));
    lab.run();
    let (mut again, mut longer) = (lab.submit(chat("a", 48, &[], 2)), lab.submit(chat("a", 48, &[9, 9], 2)));
    // 48 tokens are three full blocks, of which the prompt of 48 leaves its last token to compute, and so the block.
    assert_eq!(lab.run(), ["1:32..48 2:48..50", "1:48 2:50"]);
    assert_eq!(again.tokens(), first.tokens());
    assert_eq!(longer.tokens(), answer(&longer.job.prompt, &[], 2));
    assert_eq!(again.ended().usage.cached_tokens, 32);
    assert_eq!(longer.ended().usage.cached_tokens, 48);
    let reuse = lab.stats().reuse;
    assert_eq!((reuse.num_wanted, reuse.num_found), (48 + 48 + 50, 32 + 48));
}

#[test]
fn the_next_turn_of_a_conversation_finds_the_answer_too() {
    let mut lab = Lab::new();
    let turn = lab.submit(chat("a", 30, &[], 40));
    lab.run();
    let mut next = chat("a", 30, &[], 5);
    next.prompt.extend(turn.tokens());
    next.prompt.extend([1, 2, 3]);
    let mut next = lab.submit(next);
    lab.run();
    // The last token of the first answer was never computed.
    assert_eq!(next.ended().usage.cached_tokens, 64);
    assert_eq!(next.tokens(), answer(&next.job.prompt, &[], 5));
}

#[test]
fn sixteen_requests_with_one_system_prompt_compute_it_once() {
    let config = EngineConfig { max_sequences: 16, ..CONFIG };
    let mut lab = Lab::with(config, RunnerLimits { num_blocks: 300, ..LIMITS });
    let mut watches: Vec<_> = (0..16).map(|number| lab.submit(chat("a", 160, &[number, 7, number], 3))).collect();
    lab.run();
    let stats = lab.stats();
    // Not all of them: a prompt's last row alone counts as one that decodes.
    assert!((160 + 16 * 2..=160 + 16 * 3).contains(&stats.num_prefill_rows), "{} rows", stats.num_prefill_rows);
    assert_eq!(stats.num_preempted, 0);
    for (number, watch) in watches.iter_mut().enumerate() {
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 3));
        assert_eq!(watch.ended().usage.cached_tokens, if number == 0 { 0 } else { 160 });
    }
}

#[test]
fn whoever_waits_for_anothers_block_goes_on_when_the_other_leaves() {
    let mut lab = Lab::new();
    let first = lab.submit(chat("a", 100, &[1], 2));
    let second = lab.submit(chat("a", 100, &[2], 2));
    assert_eq!(lab.steps(1), ["0:0..16"], "half of the step is kept for who comes in, and the second waits");
    lab.cancel(&first);
    assert_eq!(lab.run()[0], "1:16..48");
    assert_eq!(second.tokens(), answer(&second.job.prompt, &[], 2));
}

#[test]
fn tenants_never_share() {
    let mut lab = Lab::new();
    let mut watches: Vec<_> = ["a", "b"].map(|tenant| lab.submit(chat(tenant, 80, &[], 2))).into();
    lab.run();
    watches.push(lab.submit(chat("c", 80, &[], 2)));
    lab.run();
    for watch in &mut watches {
        assert_eq!(watch.ended().usage.cached_tokens, 0);
        assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 2));
    }
}

#[test]
fn adapters_and_weights_and_versions_never_share() {
    let mut lab = Lab::new();
    let sets = [vec![], vec![("v1", 1.0)], vec![("v2", 1.0)], vec![("v1", 0.5)], vec![("v1", 1.0), ("v2", 1.0)]];
    for round in 0..2 {
        let watches = sets.clone().map(|set| {
            let set: Vec<_> = set.into_iter().map(|(name, weight)| (adapter(name), weight)).collect();
            (lab.submit_with(chat("a", 80, &[3], 3), set.clone()), set)
        });
        lab.run();
        for (mut watch, set) in watches {
            assert_eq!(watch.tokens(), answer(&watch.job.prompt, &set, 3));
            assert_eq!(watch.ended().usage.cached_tokens, round * 80, "each finds its own, the second time");
        }
    }
}

#[test]
fn a_prompt_that_is_scored_is_computed_whole() {
    let mut lab = Lab::new();
    lab.submit(chat("a", 80, &[], 2));
    lab.run();
    let mut scored = chat("a", 80, &[], 2);
    scored.prompt_logprobs = Some(0);
    let mut scored = lab.submit(scored);
    lab.run();
    assert_eq!(scored.prompt_logprobs().len(), 80);
    assert_eq!(scored.ended().usage.cached_tokens, 0);
    let mut plain = lab.submit(chat("a", 80, &[], 2));
    lab.run();
    assert_eq!(plain.ended().usage.cached_tokens, 64, "what was scored can be found");
}

#[test]
fn a_preempted_sequence_finds_most_of_its_work_again() {
    let limits = RunnerLimits { num_blocks: 12, ..LIMITS };
    let run = |prefix_cache: bool| {
        let mut lab = Lab::with(EngineConfig { prefix_cache, ..CONFIG }, limits);
        let mut watches = ["a", "b"].map(|tenant| lab.submit(chat(tenant, 40, &[], 70)));
        lab.run();
        for watch in &mut watches {
            assert_eq!(watch.tokens(), answer(&watch.job.prompt, &[], 70));
            assert_eq!(watch.ended().usage.cached_tokens, 0, "its own work again is no saving");
        }
        let stats = lab.stats();
        assert!(stats.num_preempted > 0);
        stats.num_prefill_rows
    };
    let (with, without) = (run(true), run(false));
    assert!(with < without, "{with} rows of prompts with, {without} without");
}

#[test]
fn without_the_cache_nothing_is_kept() {
    let mut lab = Lab::with(EngineConfig { prefix_cache: false, ..CONFIG }, LIMITS);
    for _ in 0..2 {
        let mut watch = lab.submit(chat("a", 80, &[], 2));
        lab.run();
        assert_eq!(watch.ended().usage.cached_tokens, 0);
        assert_eq!(lab.stats().num_idle_blocks, 0);
    }
    assert_eq!(lab.stats().reuse.num_wanted, 0);
}
