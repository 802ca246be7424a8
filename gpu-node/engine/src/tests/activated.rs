//! Activated adapters: they act from their invocation on, and what comes before is the base model's.

use std::sync::Arc;

use souk_protocol::{GenerateJob, TokenId};
use souk_runner::DeviceAdapter;
use souk_runner::scripted::{adapter, answer, answer_from};

use super::lab::*;

/// An adapter that 50 and 51 invoke.
fn activated(name: &str) -> Arc<DeviceAdapter> {
    let mut adapter = adapter(name);
    Arc::get_mut(&mut adapter).expect("nobody else has it yet").invocation_tokens = vec![50, 51];
    adapter
}

fn job_of(prompt: &[TokenId]) -> GenerateJob {
    GenerateJob { prompt: prompt.to_vec(), ..job(1, 6) }
}

/// Tokens that invoke nothing.
fn conversation(len: usize) -> Vec<TokenId> {
    (0..len).map(|place| (place % 40) as TokenId).collect()
}

#[test]
fn the_last_invocation_counts_from_its_first_token() {
    let adapter = activated("a");
    assert_eq!(adapter.acts_from(&[1, 50, 51, 2, 50, 51, 3]), Some(4));
    assert_eq!(adapter.acts_from(&[50, 51]), Some(0));
    assert_eq!(adapter.acts_from(&[1, 50, 2, 51]), None);
    assert_eq!(adapter.acts_from(&[51]), None);
}

#[test]
fn rows_before_the_invocation_are_the_bases_and_their_blocks_are_found() {
    let (set, before) = (vec![(activated("a"), 1.0)], conversation(40));
    let prompt = [&before[..], &[50, 51, 7]].concat();
    let mut lab = Lab::new();
    lab.submit(job_of(&before));
    lab.run();
    for round in 0..2 {
        let mut watch = lab.submit_with(job_of(&prompt), set.clone());
        lab.run();
        assert_eq!(watch.tokens(), answer_from(&prompt, &[(40, &set[..])], 6), "round {round}");
        assert_eq!(watch.ended().usage.cached_tokens, 32, "two full blocks of the base's conversation");
    }
    assert!(lab.script.adapter_runs.lock().unwrap().iter().any(|run| run == "8..11x1"), "a prompt's rows are split");
    // The block of the invocation is not the base's.
    let base = lab.submit(job_of(&[&prompt[..], &[1; 10]].concat()));
    lab.run();
    assert_eq!(base.tokens(), answer(&base.job.prompt, &[], 6));
}

#[test]
fn without_an_invocation_the_adapter_does_not_act_and_at_the_start_it_acts_like_any_other() {
    let mut lab = Lab::new();
    let silent = lab.submit_with(job_of(&conversation(20)), vec![(activated("a"), 1.0)]);
    let whole = [&[50, 51][..], &conversation(20)].concat();
    let first = lab.submit_with(job_of(&whole), vec![(activated("a"), 1.0)]);
    let plain = lab.submit_with(job_of(&whole), vec![(adapter("a"), 1.0)]);
    lab.run();
    assert_eq!(silent.tokens(), answer(&silent.job.prompt, &[], 6));
    assert_eq!(first.tokens(), plain.tokens());
    assert_ne!(first.tokens(), answer(&whole, &[], 6));
}

#[test]
fn each_adapter_of_a_set_begins_at_its_own_place_at_any_chunk_size() {
    let (plain, late) = ((adapter("p"), 0.5), (activated("a"), 1.0));
    let both = vec![plain.clone(), late];
    let prompt = [&conversation(21)[..], &[50, 51], &conversation(30)].concat();
    let expected = answer_from(&prompt, &[(0, &[plain][..]), (21, &both[..])], 6);
    for max_rows in [1, 5, 32] {
        let config = crate::EngineConfig { max_batch_tokens: max_rows, ..CONFIG };
        let mut lab = Lab::with(config, LIMITS);
        for _ in 0..2 {
            let watch = lab.submit_with(job_of(&prompt), both.clone());
            lab.run();
            assert_eq!(watch.tokens(), expected, "{max_rows} rows");
        }
    }
}
