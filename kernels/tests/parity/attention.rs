//! Attention over the paged cache.

use half::f16;
use souk_kernels::cpu::ops::{AttentionScratch, attention, rope_store};
use souk_kernels::cpu::{Cpu, Isa, KvCache, RopeTable};
use souk_kernels::reference::{self, AttentionRow};
use souk_kernels::{AttentionSpan, KernelError};

use crate::support::{Random, assert_close, assert_same_bits, backends};

/// A cache with one sequence in scattered blocks; all other slots, and those after its end, hold NaN.
struct Sequence {
    cache: KvCache,
    blocks: Vec<u32>,
    num_kv_heads: usize,
    head_dim: usize,
    /// `[token][kv head]`, as stored.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
}

impl Sequence {
    fn new(random: &mut Random, num_tokens: usize, num_kv_heads: usize, head_dim: usize) -> Sequence {
        let cpu = Cpu::new(1);
        let num_blocks = num_tokens.div_ceil(16) + 3;
        let mut cache = KvCache::new(2, num_blocks, num_kv_heads, head_dim);
        let still = RopeTable::with_frequencies(&vec![0.0; head_dim / 2], 1);
        let width = num_kv_heads * head_dim;
        let mut store = |k: &[f32], v: &[f32], slots: &[u32]| {
            let (mut q, mut k) = (vec![0.0; k.len()], k.to_vec());
            let positions = vec![0; slots.len()];
            rope_store(&cpu, &still, &mut q, &mut k, v, &positions, slots, num_kv_heads, &mut cache, 1)
                .expect("shapes fit");
        };
        let all_slots: Vec<u32> = (0..num_blocks as u32 * 16).collect();
        let nan = vec![f32::NAN; all_slots.len() * width];
        store(&nan, &nan, &all_slots);
        let blocks: Vec<u32> = (0..num_tokens.div_ceil(16) as u32).map(|at| num_blocks as u32 - 2 - at).collect();
        let slots: Vec<u32> = (0..num_tokens).map(|token| blocks[token / 16] * 16 + token as u32 % 16).collect();
        let (k, v) = (random.floats(num_tokens * width), random.floats(num_tokens * width));
        store(&k, &v, &slots);
        let stored = |values: &[f32]| -> Vec<Vec<f32>> {
            let half = |value: &f32| f16::from_f32(*value).to_f32();
            values.chunks(head_dim).map(|head| head.iter().map(half).collect()).collect()
        };
        Sequence { cache, blocks, num_kv_heads, head_dim, keys: stored(&k), values: stored(&v) }
    }

    /// Attention of `q`'s rows, the first of which is at `first_position`.
    fn attend(&self, cpu: &Cpu, q: &[f32], num_heads: usize, first_position: usize) -> Vec<f32> {
        let num_rows = q.len() / (num_heads * self.head_dim);
        let span = AttentionSpan { first_row: 0, num_rows, first_position, blocks: &self.blocks };
        let mut out = vec![f32::NAN; q.len()];
        attention(cpu, q, num_heads, &self.cache, 1, &[span], &mut out, &mut AttentionScratch::default())
            .expect("shapes fit");
        out
    }

    fn expected(&self, query: &[f32], num_heads: usize, head: usize, position: usize) -> Vec<f64> {
        let kv_head = head / (num_heads / self.num_kv_heads);
        let of = |stored: &[Vec<f32>]| -> Vec<Vec<f32>> {
            stored.iter().skip(kv_head).step_by(self.num_kv_heads).take(position + 1).cloned().collect()
        };
        reference::attention(AttentionRow { query, keys: &of(&self.keys), values: &of(&self.values) })
    }
}

/// Heads, key-value heads, head width.
const MODELS: [(usize, usize, usize); 6] = [(9, 3, 64), (4, 4, 32), (8, 1, 128), (5, 1, 80), (2, 2, 6), (4, 2, 256)];

#[test]
fn attention_agrees_with_the_reference_at_every_position() {
    let mut random = Random::new(30);
    // Large queries have scores that lie far apart, so that later blocks raise the maximum, by little and by much.
    let queries_and_tolerances = [(4.0, 2e-6), (60.0, 2e-4)];
    for ((num_heads, num_kv_heads, head_dim), (size, tolerance)) in
        MODELS.into_iter().flat_map(|model| queries_and_tolerances.map(|query| (model, query)))
    {
        let num_tokens = 53;
        let sequence = Sequence::new(&mut random, num_tokens, num_kv_heads, head_dim);
        let q: Vec<f32> = random.floats(num_tokens * num_heads * head_dim).into_iter().map(|q| size * q).collect();
        for cpu in backends() {
            let out = sequence.attend(&cpu, &q, num_heads, 0);
            for (at, (query, out)) in q.chunks(head_dim).zip(out.chunks(head_dim)).enumerate() {
                let expected = sequence.expected(query, num_heads, at % num_heads, at / num_heads);
                let what = format!("{num_heads}/{num_kv_heads} heads of {head_dim}, queries of {size}");
                assert_close(&expected, out, tolerance, 1.0, &what);
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_chunk_of_the_prompt_on_any_backend() {
    let mut random = Random::new(31);
    for (num_heads, num_kv_heads, head_dim) in MODELS {
        let num_tokens = 40;
        let width = num_heads * head_dim;
        let sequence = Sequence::new(&mut random, num_tokens, num_kv_heads, head_dim);
        let q: Vec<f32> = random.floats(num_tokens * width).into_iter().map(|q| 30.0 * q).collect();
        let scalar = Cpu::with_isa(1, Isa::Scalar).expect("always there");
        let alone: Vec<f32> = q
            .chunks(width)
            .enumerate()
            .flat_map(|(position, row)| sequence.attend(&scalar, row, num_heads, position))
            .collect();
        for cpu in backends() {
            for chunk in [1, 2, 3, 5, 8, 13, 16, 40] {
                for (at, rows) in q.chunks(chunk * width).enumerate() {
                    let out = sequence.attend(&cpu, rows, num_heads, at * chunk);
                    let expected = &alone[at * chunk * width..][..out.len()];
                    assert_same_bits(expected, &out, &format!("chunks of {chunk}, {:?}", cpu.isa()));
                }
            }
        }
    }
}

/// Positions before, at and after the ends of segments of 512 tokens, in a sequence that has three and a half.
#[test]
fn segments_of_a_long_sequence_agree_with_the_reference_and_have_the_same_bits_in_any_chunk() {
    let mut random = Random::new(34);
    for (num_heads, num_kv_heads, head_dim) in [(3, 1, 64), (2, 2, 20)] {
        let (num_tokens, width) = (1_800, num_heads * head_dim);
        let sequence = Sequence::new(&mut random, num_tokens, num_kv_heads, head_dim);
        let q: Vec<f32> = random.floats(num_tokens * width).into_iter().map(|q| 4.0 * q).collect();
        let scalar = Cpu::with_isa(1, Isa::Scalar).expect("always there");
        for (first, num_rows) in [(509, 6), (511, 1), (512, 1), (1_020, 40), (1_535, 3), (1_799, 1)] {
            let rows = &q[first * width..][..num_rows * width];
            let alone = rows.chunks(width).enumerate();
            let alone: Vec<f32> =
                alone.flat_map(|(at, row)| sequence.attend(&scalar, row, num_heads, first + at)).collect();
            for cpu in backends() {
                let out = sequence.attend(&cpu, rows, num_heads, first);
                assert_same_bits(&alone, &out, &format!("{num_rows} rows at {first}, {:?}", cpu.isa()));
            }
            for (at, (query, out)) in rows.chunks(head_dim).zip(alone.chunks(head_dim)).enumerate() {
                let expected = sequence.expected(query, num_heads, at % num_heads, first + at / num_heads);
                assert_close(&expected, out, 2e-6, 1.0, &format!("row {at} after {first}"));
            }
        }
    }
}

#[test]
fn sequences_in_one_batch_do_not_touch_each_other() {
    let mut random = Random::new(32);
    let (num_heads, num_kv_heads, head_dim) = (6, 2, 64);
    let width = num_heads * head_dim;
    let sequence = Sequence::new(&mut random, 70, num_kv_heads, head_dim);
    // Span 1 reads a block that nobody has written but with NaN; spans 0 and 2 are as when alone.
    let bad = [sequence.cache.num_blocks() as u32 - 1];
    let q = random.floats(20 * width);
    let spans = [
        AttentionSpan { first_row: 12, num_rows: 8, first_position: 30, blocks: &sequence.blocks },
        AttentionSpan { first_row: 1, num_rows: 2, first_position: 0, blocks: &bad },
        AttentionSpan { first_row: 3, num_rows: 1, first_position: 69, blocks: &sequence.blocks },
        AttentionSpan { first_row: 5, num_rows: 0, first_position: 0, blocks: &[] },
    ];
    for cpu in backends() {
        let mut out = vec![7.0; q.len()];
        attention(&cpu, &q, num_heads, &sequence.cache, 1, &spans, &mut out, &mut AttentionScratch::default())
            .expect("shapes fit");
        assert!(out[width..3 * width].iter().all(|value| value.is_nan()));
        assert_same_bits(&sequence.attend(&cpu, &q[12 * width..], num_heads, 30), &out[12 * width..], "prefill");
        let decode = sequence.attend(&cpu, &q[3 * width..4 * width], num_heads, 69);
        assert_same_bits(&decode, &out[3 * width..4 * width], "decode");
        assert!(out[..width].iter().chain(&out[4 * width..12 * width]).all(|value| *value == 7.0), "rows of no span");
    }
}

#[test]
fn a_query_that_is_not_finite_gives_a_row_that_is_not() {
    let sequence = Sequence::new(&mut Random::new(33), 20, 1, 64);
    for cpu in backends() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut q = vec![0.5; 2 * 64];
            q[3] = bad;
            let out = sequence.attend(&cpu, &q, 2, 17);
            assert!(out[..64].iter().any(|value| !value.is_finite()), "{:?}", cpu.isa());
            assert!(out[64..].iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn spans_that_do_not_fit_are_refused() {
    let cpu = Cpu::new(1);
    let cache = KvCache::new(1, 2, 1, 4);
    let run = |spans: &[AttentionSpan<'_>], num_heads, layer| {
        attention(&cpu, &[0.0; 16], num_heads, &cache, layer, spans, &mut [0.0; 16], &mut AttentionScratch::default())
    };
    let span = AttentionSpan { first_row: 0, num_rows: 2, first_position: 15, blocks: &[0, 1] };
    assert_eq!(run(&[span], 1, 0), Ok(()));
    assert_eq!(run(&[], 1, 0), Ok(()));
    assert!(run(&[AttentionSpan { blocks: &[0], ..span }], 1, 0).is_err(), "too few blocks");
    assert!(run(&[AttentionSpan { blocks: &[0, 2], ..span }], 1, 0).is_err(), "no such block");
    assert!(run(&[AttentionSpan { num_rows: 5, ..span }], 1, 0).is_err(), "too many rows");
    assert!(run(&[AttentionSpan { first_row: 1, ..span }, span], 1, 0).is_err(), "shared rows");
    assert!(run(&[span, AttentionSpan { first_row: 1, ..span }], 1, 0).is_err(), "shared rows");
    assert!(run(&[AttentionSpan { first_row: 2, ..span }, span], 1, 0).is_ok(), "any order");
    assert!(run(&[span], 0, 0).is_ok(), "no heads");
    let no_layer = KernelError::Limit { op: "attention", what: "layer", limit: 0, given: 1 };
    assert_eq!(run(&[span], 1, 1), Err(no_layer));
    let no_kv_heads = KvCache::new(1, 2, 0, 4);
    assert!(
        attention(&cpu, &[0.0; 16], 1, &no_kv_heads, 0, &[span], &mut [0.0; 16], &mut AttentionScratch::default())
            .is_err()
    );
}
