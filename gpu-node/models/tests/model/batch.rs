//! A row's logits do not depend on what else is in the step, bit for bit.

use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use souk_models::llama::LlamaRunner;
use souk_protocol::LlamaShape;

use crate::driver::{Sequence, argmax, run_alone, run_together, runner};
use crate::tiny::{AdapterParts, BLOCKY, Random, SMALL, random_adapter, weights};

const ALL: AdapterParts =
    AdapterParts { rank: 8, attention: true, feed_forward: true, head: false, norms: false, gain: false };

/// Sequences of many lengths: base, each kind of adapter, several adapters at once, one that begins late.
fn sequences(shape: &LlamaShape) -> Vec<Sequence> {
    let adapter = |seed, parts| random_adapter(shape, parts, seed);
    let plain = adapter(1, ALL);
    let narrow = adapter(2, AdapterParts { rank: 3, feed_forward: false, ..ALL });
    let gained = adapter(3, AdapterParts { rank: 16, gain: true, ..ALL });
    let whole = adapter(4, AdapterParts { rank: 5, head: true, norms: true, ..ALL });
    let norms = adapter(5, AdapterParts { attention: false, feed_forward: false, norms: true, ..ALL });
    let uses = [
        vec![],
        vec![(&plain, 1.0)],
        vec![(&gained, 1.0)],
        vec![(&plain, 0.5), (&narrow, 1.25), (&whole, 0.75)],
        vec![],
        vec![(&whole, 1.0)],
        vec![(&norms, 1.0), (&whole, 0.5)],
        vec![(&plain, 1.0)],
        vec![(&gained, 0.5), (&narrow, -1.0)],
    ];
    let mut random = Random::new(8);
    let lengths = [33, 17, 40, 1, 16, 25, 48, 30, 5];
    let mut sequences: Vec<_> = uses
        .iter()
        .zip(lengths)
        .map(|(adapters, len)| Sequence::new(random.tokens(len, shape.vocab_size), adapters))
        .collect();
    sequences[7].first_adapted = 11;
    sequences
}

fn expect_same(expected: &[Vec<Vec<f32>>], given: &[Sequence], how: &str) {
    for (index, (expected, sequence)) in expected.iter().zip(given).enumerate() {
        assert_eq!(expected.len(), sequence.logits.len(), "sequence {index}, {how}");
        for (position, (expected, logits)) in expected.iter().zip(&sequence.logits).enumerate() {
            let same = expected.iter().zip(logits).all(|(one, other)| one.to_bits() == other.to_bits());
            assert!(same, "sequence {index} differs at position {position}, {how}");
        }
    }
}

#[test]
fn logits_are_the_same_bits_alone_and_in_any_mixed_batch() {
    for (shape, dtype) in [(SMALL, GgmlDType::F32), (BLOCKY, GgmlDType::Q4_1), (BLOCKY, GgmlDType::Q4K)] {
        let weights = weights(shape, dtype);
        let mut one: LlamaRunner = runner(&weights, 1);
        let mut two: LlamaRunner = runner(&weights, 2);
        let alone: Vec<_> = sequences(&shape).into_iter().map(|sequence| run_alone(&mut one, sequence)).collect();

        for chunk in [1, 3, 7, 16, 48] {
            let mut together = sequences(&shape);
            run_together(&mut two, &mut together, |_, _| chunk);
            expect_same(&alone, &together, &format!("{dtype:?}, chunks of {chunk}"));
        }
        // Some decode while others prefill, and sequences come and go.
        let mut together = sequences(&shape);
        run_together(
            &mut two,
            &mut together,
            |index, step| if step % 2 == 0 { 1 } else { 1 + (index * 5 + step) % 13 },
        );
        expect_same(&alone, &together, &format!("{dtype:?}, uneven chunks"));
    }
}

#[test]
fn a_greedy_row_chooses_the_first_of_its_largest_logits() {
    for (shape, dtype) in [(SMALL, GgmlDType::F32), (BLOCKY, GgmlDType::Q4_1), (BLOCKY, GgmlDType::Q8_0)] {
        let weights = weights(shape, dtype);
        let mut runner = runner(&weights, 2);
        let sick = |mut sequences: Vec<Sequence>| {
            let adapter = poisoned(&shape, f32::NAN);
            sequences.push(Sequence::new(Random::new(2).tokens(20, shape.vocab_size), &[(&adapter, 1.0)]));
            sequences
        };
        let mut whole = sick(sequences(&shape));
        run_together(&mut runner, &mut whole, |_, _| 6);
        for greedy in [|_: usize| true, |index: usize| index.is_multiple_of(2), |index: usize| !index.is_multiple_of(3)]
        {
            let mut mixed = sick(sequences(&shape));
            for (index, sequence) in mixed.iter_mut().enumerate() {
                sequence.is_greedy = greedy(index);
            }
            run_together(&mut runner, &mut mixed, |index, step| 1 + (index + step) % 5);
            for (index, (whole, mixed)) in whole.iter().zip(&mixed).enumerate() {
                if mixed.is_greedy {
                    let best = |logits: &Vec<f32>| logits.iter().all(|x| x.is_finite()).then(|| argmax(logits));
                    assert_eq!(mixed.best, whole.logits.iter().map(best).collect::<Vec<_>>(), "sequence {index}");
                } else {
                    let bits = |rows: &[Vec<f32>]| rows.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&whole.logits), bits(&mixed.logits), "sequence {index}");
                }
            }
        }
        assert!(whole.last().unwrap().logits.iter().flatten().any(|logit| logit.is_nan()));
    }
}

#[test]
fn every_part_of_an_adapter_changes_the_logits() {
    let weights = weights(SMALL, GgmlDType::F32);
    let mut runner = runner(&weights, 1);
    let tokens = [3, 1, 4, 1, 5, 9];
    let base = run_alone(&mut runner, Sequence::new(tokens, &[]));
    let none = AdapterParts { rank: 4, attention: false, feed_forward: false, head: false, norms: false, gain: false };
    let parts = [
        AdapterParts { attention: true, ..none },
        AdapterParts { feed_forward: true, ..none },
        AdapterParts { head: true, ..none },
        AdapterParts { norms: true, ..none },
    ];
    for (index, parts) in parts.into_iter().enumerate() {
        let adapter = random_adapter(&SMALL, parts, 1);
        let logits = run_alone(&mut runner, Sequence::new(tokens, &[(&adapter, 1.0)]));
        assert!(logits.iter().zip(&base).all(|(ours, base)| ours != base), "part {index} changes nothing");
        let off = run_alone(&mut runner, Sequence::new(tokens, &[(&adapter, 0.0)]));
        assert_eq!(off, base, "part {index} acts with weight 0");
    }
}

#[test]
fn an_adapter_acts_from_its_first_position_on() {
    let weights = weights(SMALL, GgmlDType::F32);
    let mut runner = runner(&weights, 1);
    let tokens = Random::new(4).tokens(20, SMALL.vocab_size);
    let adapter = random_adapter(&SMALL, ALL, 1);
    let base = run_alone(&mut runner, Sequence::new(tokens.clone(), &[]));
    let mut late = Sequence::new(tokens, &[(&adapter, 1.0)]);
    late.first_adapted = 12;
    let late = run_alone(&mut runner, late);
    assert_eq!(late[..12], base[..12]);
    assert!(late[12..].iter().zip(&base[12..]).all(|(late, base)| late != base));
}

#[test]
fn numbers_that_are_not_finite_stay_in_their_own_rows() {
    for (shape, dtype) in [(SMALL, GgmlDType::F32), (BLOCKY, GgmlDType::Q4_1)] {
        let weights = weights(shape, dtype);
        let mut runner = runner(&weights, 2);
        let alone: Vec<_> = sequences(&shape).into_iter().map(|sequence| run_alone(&mut runner, sequence)).collect();
        for poison in [f32::NAN, f32::INFINITY] {
            let adapter = poisoned(&shape, poison);
            let mut together = sequences(&shape);
            together.insert(4, Sequence::new(Random::new(2).tokens(30, shape.vocab_size), &[(&adapter, 1.0)]));
            run_together(&mut runner, &mut together, |_, _| 6);
            let sick = together.remove(4);
            for (position, logits) in sick.logits.iter().enumerate() {
                assert!(!logits.iter().all(|logit| logit.is_finite()), "{poison} is hidden at position {position}");
            }
            expect_same(&alone, &together, &format!("{dtype:?}, beside {poison}"));
        }
        // What the poisoned sequence left in the cache and the buffers must not reach a later owner.
        let mut again = sequences(&shape);
        run_together(&mut runner, &mut again, |_, _| 6);
        expect_same(&alone, &again, &format!("{dtype:?}, after poison"));
    }
}

fn poisoned(shape: &LlamaShape, poison: f32) -> Arc<souk_runner::DeviceAdapter> {
    use souk_kernels::SlabType;
    use souk_kernels::cpu::LoraPair;
    let mut adapter = souk_models::adapter::PackedAdapter::empty(souk_protocol::Digest::of(b"bad"), shape.num_layers);
    let (inputs, outputs) = (shape.hidden_size, shape.kv_size());
    let b = vec![poison; outputs * 2];
    let pair = LoraPair::pack(2, inputs, outputs, &vec![0.1; 2 * inputs], &b, 1.0, SlabType::Bf16);
    adapter.layers[0].v = Some(pair.expect("the kernels take any numbers"));
    Arc::new(Arc::new(adapter).on_cpu())
}
