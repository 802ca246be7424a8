//! RMS norm, SwiGLU, quantisation, RoPE, softmax weights.

use half::f16;
use souk_kernels::cpu::ops::{exp_scaled, quantize, rms_norm, rope_store, swiglu};
use souk_kernels::cpu::{Activations, Cpu, Isa, KvCache, RopeTable};
use souk_kernels::{KernelError, NormWeights, RowSelection, reference};

use crate::support::{Random, activations, assert_close, assert_same_bits, backends};

const WIDTHS: [usize; 7] = [1, 15, 16, 31, 33, 96, 577];

fn norm(cpu: &Cpu, x: &[f32], rows: RowSelection<'_>, weights: NormWeights<'_>) -> Activations {
    let mut out = Activations::new(rows.num_rows(), weights.base.len());
    rms_norm(cpu, x, rows, weights, 1e-5, &mut out).expect("shapes fit");
    out
}

#[test]
fn rms_norm_agrees_with_the_reference_and_takes_overrides_by_row() {
    let mut random = Random::new(20);
    for cols in WIDTHS {
        let num_rows = 21;
        let (x, base, other) = (random.floats(num_rows * cols), random.floats(cols), random.floats(cols));
        let picked = [3_u32, 20, 0, 3, 7];
        let overrides = [(1, other.as_slice()), (4, other.as_slice())];
        for cpu in backends() {
            let weights = NormWeights { base: &base, overrides: &overrides };
            for rows in [RowSelection::All(num_rows), RowSelection::Picked(&picked)] {
                let out = norm(&cpu, &x, rows, weights);
                for row in 0..rows.num_rows() {
                    let source = match rows {
                        RowSelection::All(_) => row,
                        RowSelection::Picked(picked) => picked[row] as usize,
                    };
                    let weight = if row == 1 || row == 4 { &other } else { &base };
                    let expected = reference::rms_norm(&x[source * cols..][..cols], weight, 1e-5);
                    assert_close(&expected, &out.f32()[row * cols..][..cols], 2e-6, 2.0, "rms_norm");
                }
            }
        }
    }
}

#[test]
fn swiglu_agrees_with_the_reference() {
    let mut random = Random::new(21);
    for cols in WIDTHS {
        let gate: Vec<f32> = random.floats(9 * cols).into_iter().map(|value| value * 20.0).collect();
        let up = random.floats(9 * cols);
        for cpu in backends() {
            let mut out = Activations::new(9, cols);
            swiglu(&cpu, &gate, &up, 9, &mut out).expect("shapes fit");
            assert_close(&reference::swiglu(&gate, &up), out.f32(), 1e-6, 20.0, "swiglu");
        }
    }
}

#[test]
fn softmax_weights_agree_with_the_reference_and_have_the_same_bits_everywhere() {
    let mut random = Random::new(23);
    for len in WIDTHS {
        let x: Vec<f32> = random.floats(len).into_iter().map(|value| value * 9.0).collect();
        let greatest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for scale in [0.5, 1.0, 4.0] {
            let weights = |isa| {
                let mut out = vec![7.0; len];
                let sum = exp_scaled(isa, &x, greatest, scale, &mut out).expect("shapes fit");
                (out, sum)
            };
            let expected = reference::exp_scaled(&x, greatest, scale);
            let (out, sum) = weights(Isa::Scalar);
            assert_close(&expected, &out, 3e-5, 1.0, "exp_scaled");
            assert_close(&[expected.iter().sum()], &[sum], 3e-5, expected.iter().sum(), "sum of exp_scaled");
            for isa in Isa::available() {
                let (other, other_sum) = weights(isa);
                assert_same_bits(&out, &other, &format!("{isa:?}"));
                assert_same_bits(&[sum], &[other_sum], &format!("{isa:?}, sum"));
            }
        }
    }
    assert!(exp_scaled(Isa::Scalar, &[1.0, 2.0], 2.0, 1.0, &mut [0.0]).is_err(), "shapes are checked");
}

#[test]
fn rows_have_the_same_bits_alone_and_together_on_every_backend() {
    let mut random = Random::new(22);
    let scalar = Cpu::with_isa(1, Isa::Scalar).expect("always there");
    for cols in WIDTHS {
        // Enough rows for several chunks.
        let num_rows = 9_000 / cols.max(64) + 30;
        let (x, up, base) = (random.floats(num_rows * cols), random.floats(num_rows * cols), random.floats(cols));
        let weights = NormWeights { base: &base, overrides: &[] };
        for cpu in backends() {
            let normed = norm(&cpu, &x, RowSelection::All(num_rows), weights);
            let mut gated = Activations::new(num_rows, cols);
            swiglu(&cpu, &x, &up, num_rows, &mut gated).expect("shapes fit");
            for row in (0..num_rows).step_by(7) {
                let alone = norm(&scalar, &x[row * cols..][..cols], RowSelection::All(1), weights);
                assert_same_bits(alone.f32(), &normed.f32()[row * cols..][..cols], "rms_norm");
                assert_same_bits(&alone.dequantized_row(0), &normed.dequantized_row(row), "rms_norm, quantised");
                let mut alone = Activations::new(1, cols);
                swiglu(&scalar, &x[row * cols..], &up[row * cols..], 1, &mut alone).expect("shapes fit");
                assert_same_bits(alone.f32(), &gated.f32()[row * cols..][..cols], "swiglu");
                assert_same_bits(&alone.dequantized_row(0), &gated.dequantized_row(row), "swiglu, quantised");
            }
        }
    }
}

#[test]
fn quantised_rows_are_within_half_a_step_and_one_value_in_256_one_step_higher() {
    let mut random = Random::new(23);
    for cols in WIDTHS {
        for magnitude in [1e-36, 1e-20, 1.0, 1e30] {
            let x: Vec<f32> = random.floats(cols).into_iter().map(|value| value * magnitude).collect();
            for cpu in backends() {
                let rows = activations(&cpu, &x, cols);
                assert_same_bits(&x, rows.f32(), "the f32 copy");
                for (x, seen) in x.chunks(32).zip(rows.dequantized_row(0).chunks(32)) {
                    let highest = x.iter().fold(0.0_f32, |highest, value| highest.max(value.abs()));
                    let step = if highest < 1e-30 { 2.0 * highest } else { highest / 32_512.0 };
                    for (x, seen) in x.iter().zip(seen) {
                        // Half a step, and the rounding of the float operations around it.
                        let is_raised = (seen / step).round().rem_euclid(256.0) == 129.0;
                        let raised = if is_raised { step } else { 0.0 };
                        let error = (x - seen).abs().min((x + raised - seen).abs());
                        assert!(error <= 0.51 * step, "{x} became {seen}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_integer_of_sixteen_bits_is_kept_but_for_those_that_are_raised() {
    for cpu in backends() {
        for first in (-32_512..=32_512).step_by(31) {
            let x: [f32; 32] =
                std::array::from_fn(|at| if at == 0 { 32_512.0 } else { (first + at as i32 - 1) as f32 });
            let x = x.map(|value| value.min(32_512.0));
            let seen = activations(&cpu, &x, 32).dequantized_row(0);
            for (x, seen) in x.into_iter().zip(seen) {
                let raised = if (x as i32).rem_euclid(256) == 128 { 1.0 } else { 0.0 };
                assert_eq!(seen, x + raised, "{:?}", cpu.isa());
            }
        }
    }
}

#[test]
fn a_block_with_a_value_that_is_not_finite_is_nan() {
    for cpu in backends() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = [1.0; 64];
            x[5] = bad;
            let seen = activations(&cpu, &x, 64).dequantized_row(0);
            assert!(seen[..32].iter().all(|value| value.is_nan()));
            assert_same_bits(&[1.0; 32], &seen[32..], "the other block");
        }
    }
}

#[test]
fn rope_store_rotates_and_fills_the_slots() {
    let mut random = Random::new(24);
    for (num_heads, num_kv_heads, head_dim, num_rows) in [(4, 2, 64, 5), (3, 3, 6, 3), (9, 3, 64, 70), (2, 1, 80, 40)] {
        let rope = RopeTable::new(head_dim, 10_000.0, 128);
        let (q_width, kv_width) = (num_heads * head_dim, num_kv_heads * head_dim);
        let (q, k, v) =
            (random.floats(num_rows * q_width), random.floats(num_rows * kv_width), random.floats(num_rows * kv_width));
        let positions: Vec<u32> = (0..num_rows as u32).map(|row| row * 37 % 128).collect();
        let slots: Vec<u32> = (0..num_rows as u32).map(|row| (row * 5 + 3) % 96).collect();
        let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
        for cpu in backends() {
            let mut cache = KvCache::new(2, 6, num_kv_heads, head_dim);
            let (mut new_q, mut new_k) = (q.clone(), k.clone());
            rope_store(&cpu, &rope, &mut new_q, &mut new_k, &v, &positions, &slots, num_heads, &mut cache, 1)
                .expect("shapes fit");
            for (old, new, heads) in [(&q, &new_q, num_heads), (&k, &new_k, num_kv_heads)] {
                for (at, (old, new)) in old.chunks(head_dim).zip(new.chunks(head_dim)).enumerate() {
                    let expected = reference::rope(old, 10_000.0, positions[at / heads]);
                    assert_close(&expected, new, 3e-7, 2.0, "rope");
                }
            }
            for row in 0..num_rows {
                for head in 0..num_kv_heads {
                    let (key, value) = cache.read(1, slots[row] as usize, head);
                    let half = |values: &[f32]| -> Vec<f32> {
                        let first = row * kv_width + head * head_dim;
                        values[first..first + head_dim].iter().map(|value| f16::from_f32(*value).to_f32()).collect()
                    };
                    assert_same_bits(&half(&new_k), &key, "stored key");
                    assert_same_bits(&half(&v), &value, "stored value");
                }
            }
            let (first_q, first_k) = first.get_or_insert_with(|| (new_q.clone(), new_k.clone()));
            assert_same_bits(first_q, &new_q, "queries on every backend");
            assert_same_bits(first_k, &new_k, "keys on every backend");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let cpu = Cpu::new(1);
    let mut out = Activations::new(2, 4);
    let base = [1.0; 4];
    let unsorted: [(usize, &[f32]); 2] = [(1, &base), (1, &base)];
    let weights = NormWeights { base: &base, overrides: &unsorted };
    assert!(rms_norm(&cpu, &[0.0; 8], RowSelection::All(2), weights, 1e-5, &mut out).is_err());
    let weights = NormWeights { base: &base, overrides: &[] };
    let error = rms_norm(&cpu, &[0.0; 8], RowSelection::Picked(&[0, 2]), weights, 1e-5, &mut out);
    assert_eq!(error, Err(KernelError::TooShort { op: "rms_norm", what: "x", expected: 12, given: 8 }));
    assert!(quantize(&cpu, &[0.0; 12], 3, &mut out).is_err());
    assert!(swiglu(&cpu, &[0.0; 8], &[0.0; 7], 2, &mut out).is_err());

    let rope = RopeTable::new(4, 10_000.0, 8);
    let mut cache = KvCache::new(1, 1, 1, 4);
    let mut store = |position: u32, slot: u32, layer: usize, num_heads: usize| {
        let (mut q, mut k) = ([0.0; 4], [0.0; 4]);
        rope_store(&cpu, &rope, &mut q, &mut k, &[0.0; 4], &[position], &[slot], num_heads, &mut cache, layer)
    };
    assert_eq!(store(7, 15, 0, 1), Ok(()));
    let limit = |what, limit, given| Err(KernelError::Limit { op: "rope_store", what, limit, given });
    assert_eq!(store(8, 0, 0, 1), limit("position", 7, 8));
    assert_eq!(store(0, 16, 0, 1), limit("slot", 15, 16));
    assert_eq!(store(0, 0, 1, 1), limit("layer", 0, 1));
    assert!(store(0, 0, 0, 2).is_err());
}
