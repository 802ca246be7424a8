//! Activated adapters on the real model: what comes before the invocation is the base model's, to the bit, and is
//! shared with it.

use std::sync::Arc;

use souk_models::base::LoadedBase;
use souk_protocol::LlamaShape;
use souk_runner::DeviceAdapter;

use crate::cache::{Ask, Desk};
use crate::driver::{Sequence, run_alone, run_together, runner};
use crate::fixtures::smollm2;
use crate::tiny::{AdapterParts, Random, random_adapter};

/// Plain pairs on everything that there is: the only kind that can be activated.
const PLAIN: AdapterParts =
    AdapterParts { rank: 8, attention: true, feed_forward: true, head: true, norms: false, gain: false };
const INVOCATION: [u32; 3] = [9906, 2717, 11];
/// Tokens before the invocation: four blocks and a part of the fifth.
const NUM_BEFORE: usize = 70;

fn activated(shape: &LlamaShape, seed: u64) -> Arc<DeviceAdapter> {
    let mut adapter = random_adapter(shape, PLAIN, seed);
    Arc::get_mut(&mut adapter).expect("nobody else has it yet").invocation_tokens = INVOCATION.to_vec();
    adapter
}

/// A conversation, the invocation, and what follows.
fn prompt(shape: &LlamaShape) -> Vec<u32> {
    let mut random = Random::new(5);
    [random.tokens(NUM_BEFORE, shape.vocab_size), INVOCATION.to_vec(), random.tokens(20, shape.vocab_size)].concat()
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn rows_before_the_invocation_have_the_bases_bits_and_every_row_after_has_others() {
    let LoadedBase { model, weights } = smollm2();
    let weights = Arc::new(weights);
    let (adapter, tokens) = (activated(&model.shape, 11), prompt(&model.shape));
    let first_adapted = adapter.acts_from(&tokens).expect("the prompt invokes it");
    assert_eq!(first_adapted, NUM_BEFORE);
    let late = || Sequence { first_adapted, ..Sequence::new(tokens.clone(), &[(&adapter, 1.0)]) };
    let mut one = runner(&weights, 1);
    let base = run_alone(&mut one, Sequence::new(tokens.clone(), &[]));
    let always = run_alone(&mut one, Sequence::new(tokens.clone(), &[(&adapter, 1.0)]));
    let alone = run_alone(&mut one, late());
    // In company, with the invocation anywhere in a chunk.
    let always_on = Sequence::new(tokens.clone(), &[(&adapter, 1.0)]);
    let mut together = [late(), Sequence::new(tokens.clone(), &[]), always_on, late()];
    run_together(&mut runner(&weights, 2), &mut together, |index, step| 1 + (5 * index + step) % 9);
    let [first, .., last] = together;
    for (name, rows) in [("alone", &alone), ("the first of four", &first.logits), ("the last", &last.logits)] {
        assert_eq!(rows.len(), tokens.len());
        for (position, row) in rows.iter().enumerate() {
            assert!(bits(row) == bits(&alone[position]), "{name}, position {position}: another answer in company");
            let is_bases = bits(row) == bits(&base[position]);
            assert_eq!(is_bases, position < NUM_BEFORE, "{name}, position {position}: whether it is the base's");
            assert!(bits(row) != bits(&always[position]), "{name}, position {position}: it acts before its invocation");
        }
    }
}

#[tokio::test]
async fn the_bases_k_and_v_serve_an_activated_adapter_and_its_own_serve_the_base() {
    let LoadedBase { model, weights } = smollm2();
    let weights = Arc::new(weights);
    let whole = prompt(&model.shape);
    let [one, other] = [11, 12].map(|seed| vec![(activated(&model.shape, seed), 1.0)]);
    let ask =
        |tenant, prompt: &[u32], adapters: &Vec<_>| Ask { tenant, prompt: prompt.to_vec(), adapters: adapters.clone() };
    // Who asks, and how many tokens are found: full blocks before the invocation are the base's whoever computed them,
    // those after it belong to one adapter, and nothing to another tenant.
    let conversation = &whole[..NUM_BEFORE];
    let asks = [
        (ask("a", conversation, &vec![]), 0),
        (ask("a", &whole, &one), 64),
        (ask("a", &whole, &other), 64),
        (ask("a", &whole, &vec![]), 64),
        (ask("a", &whole, &one), 80),
        (ask("b", &whole, &one), 0),
        (ask("b", conversation, &vec![]), 64),
        (ask("b", &whole, &vec![]), 64),
    ];
    let (cached, fresh) = (Desk::new(&weights, true), Desk::new(&weights, false));
    let mut answers = Vec::new();
    for (at, (ask, num_cached)) in asks.iter().enumerate() {
        let (answer, usage) = cached.ask(std::slice::from_ref(ask)).await.remove(0);
        assert_eq!(usage.cached_tokens, *num_cached, "request {at}");
        assert_eq!(answer, fresh.ask(std::slice::from_ref(ask)).await.remove(0).0, "request {at}");
        answers.push(answer);
    }
    assert_ne!(answers[1], answers[2], "two adapters, two answers");
    assert_ne!(answers[1], answers[3], "and neither is the base's");
}
