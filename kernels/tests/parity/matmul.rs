//! Matmul over every weight type.

use souk_kernels::OutputMode;
use souk_kernels::cpu::ops::{LoraScratch, MatmulTarget, matmul};
use souk_kernels::cpu::{Cpu, Isa, Matrix};
use souk_kernels::{KernelError, WeightType, reference};

use crate::support::{Random, activations, assert_close, assert_same_bits, backends, matrix, nmse};

fn run(cpu: &Cpu, weights: &Matrix, x: &[f32], num_rows: usize) -> Vec<f32> {
    let x = activations(cpu, &x[..num_rows * weights.in_features()], weights.in_features());
    let mut out = vec![f32::NAN; num_rows * weights.out_features()];
    let mode = OutputMode::Overwrite;
    let target = MatmulTarget { matrix: weights, out: &mut out, mode, runs: &[] };
    matmul(cpu, &x, num_rows, &mut [target], &mut LoraScratch::new()).expect("shapes fit");
    out
}

/// Sizes with and without tails; float matrices also take inputs that fill no block.
fn shapes(weight_type: WeightType) -> Vec<(usize, usize)> {
    match weight_type.block_len() {
        1 => vec![(1, 1), (3, 7), (16, 4), (17, 33), (48, 130)],
        32 => vec![(1, 32), (16, 64), (37, 96), (50, 288)],
        _ => vec![(1, 256), (33, 512), (16, 768)],
    }
}

#[test]
fn every_weight_type_agrees_with_the_reference_on_the_same_activations() {
    let mut random = Random::new(1);
    for weight_type in WeightType::ALL {
        for (out_features, in_features) in shapes(weight_type) {
            let weights = matrix(&mut random, weight_type, out_features, in_features);
            let num_rows = 11;
            let x = random.floats(num_rows * in_features);
            for cpu in backends() {
                let seen = activations(&cpu, &x, in_features);
                let out = run(&cpu, &weights, &x, num_rows);
                for (row, out) in out.chunks(out_features).enumerate() {
                    let x_row = match weight_type.block_len() {
                        1 => x[row * in_features..][..in_features].to_vec(),
                        _ => seen.dequantized_row(row),
                    };
                    let expected = reference::matmul(&weights, &x_row);
                    let mut magnitude = 0.0_f64;
                    let mut weight_row = vec![0.0; in_features];
                    for row in 0..out_features {
                        weights.dequantize_row(row, &mut weight_row);
                        let sum = weight_row.iter().zip(&x_row).map(|(w, x)| f64::from((w * x).abs())).sum();
                        magnitude = magnitude.max(sum);
                    }
                    let what = format!("{weight_type:?} {out_features}x{in_features} {:?}", cpu.isa());
                    assert_close(&expected, out, 2e-6, magnitude, &what);
                }
            }
        }
    }
}

#[test]
fn quantising_the_activations_costs_less_than_the_stated_error() {
    let mut random = Random::new(2);
    for weight_type in WeightType::ALL {
        let weights = matrix(&mut random, weight_type, 64, 512);
        let x = random.floats(512);
        for cpu in backends() {
            let error = nmse(&reference::matmul(&weights, &x), &run(&cpu, &weights, &x, 1));
            assert!(error < 1e-8, "{weight_type:?}: {error}");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_batch_on_any_backend() {
    let mut random = Random::new(3);
    for weight_type in WeightType::ALL {
        let (out_features, in_features) = (53, 512);
        let weights = matrix(&mut random, weight_type, out_features, in_features);
        // Up to where rows are cut into parts for several threads, and into pieces that a cache holds.
        let num_rows = 130;
        let x = random.floats(num_rows * in_features);
        let scalar = Cpu::with_isa(1, Isa::Scalar).expect("always there");
        let alone: Vec<f32> = x.chunks(in_features).flat_map(|row| run(&scalar, &weights, row, 1)).collect();
        for cpu in backends() {
            for num_rows in [1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 19, 33, 65, 130] {
                let out = run(&cpu, &weights, &x, num_rows);
                let what = format!("{weight_type:?}, {num_rows} rows, {:?}", cpu.isa());
                assert_same_bits(&alone[..num_rows * out_features], &out, &what);
            }
        }
    }
}

#[test]
fn the_extremes_of_int8_do_not_saturate() {
    // Weights at their ends (bytes 0x80 and 0x7f), and both planes of the activations at theirs: 32512 is 127 coarse
    // steps, 127 and 32385 leave 127 or -127 fine ones. All sums are exact in f32.
    for cpu in backends() {
        for byte in [0x80_u8, 0x7f, 0x00, 0xff] {
            let mut bytes = half::f16::from_f32(1.0).to_le_bytes().to_vec();
            bytes.extend([byte; 32]);
            let weights = Matrix::pack(WeightType::Q8_0, 1, 32, &bytes, None).expect("sizes fit");
            for sign in [1.0, -1.0] {
                for rest in [32_512.0, 127.0, 32_385.0, -127.0] {
                    let mut x = [sign * rest; 32];
                    x[0] = sign * 32_512.0;
                    let sum: f32 = x.iter().sum();
                    let out = run(&cpu, &weights, &x, 1);
                    assert_eq!(out[0], sum * f32::from(byte as i8), "{:?}, {sign} {rest}", cpu.isa());
                }
            }
        }
    }
}

#[test]
fn several_targets_share_a_dispatch_and_accumulate() {
    let mut random = Random::new(4);
    let matrices: Vec<Matrix> = (0..11)
        .map(|at| matrix(&mut random, [WeightType::Q4_1, WeightType::Q8_0, WeightType::F16][at % 3], 5 + 13 * at, 64))
        .collect();
    let x = random.floats(6 * 64);
    for cpu in backends() {
        let rows = activations(&cpu, &x, 64);
        let mut outs: Vec<Vec<f32>> = matrices.iter().map(|matrix| vec![1.5; 6 * matrix.out_features()]).collect();
        let mut targets: Vec<MatmulTarget<'_>> = matrices
            .iter()
            .zip(&mut outs)
            .map(|(matrix, out)| MatmulTarget { matrix, out, mode: OutputMode::Accumulate, runs: &[] })
            .collect();
        matmul(&cpu, &rows, 6, &mut targets, &mut LoraScratch::new()).expect("shapes fit");
        for (matrix, out) in matrices.iter().zip(&outs) {
            let expected: Vec<f32> = run(&cpu, matrix, &x, 6).into_iter().map(|value| 1.5 + value).collect();
            assert_same_bits(&expected, out, "accumulated");
        }
    }
}

#[test]
fn a_value_that_is_not_finite_shows_in_its_own_row_only() {
    let mut random = Random::new(5);
    for weight_type in WeightType::ALL {
        let weights = matrix(&mut random, weight_type, 20, 256);
        let clean = random.floats(5 * 256);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = clean.clone();
            x[2 * 256 + 100] = bad;
            for cpu in backends() {
                let (expected, out) = (run(&cpu, &weights, &clean, 5), run(&cpu, &weights, &x, 5));
                assert_same_bits(&expected[..40], &out[..40], "rows before");
                assert_same_bits(&expected[60..], &out[60..], "rows after");
                assert!(out[40..60].iter().any(|value| !value.is_finite()), "{weight_type:?}");
            }
        }
    }
}

#[test]
fn no_rows_and_no_outputs_are_fine() {
    let cpu = Cpu::new(2);
    let empty = Matrix::pack(WeightType::Q4_0, 0, 32, &[], None).expect("no rows");
    assert_eq!(run(&cpu, &empty, &[1.0; 32], 1), Vec::<f32>::new());
    assert_eq!(run(&cpu, &empty, &[], 0), Vec::<f32>::new());
}

#[test]
fn shapes_that_do_not_fit_are_refused_with_both_numbers() {
    let cpu = Cpu::new(1);
    let weights = matrix(&mut Random::new(6), WeightType::Q8_0, 4, 64);
    let x = activations(&cpu, &[0.0; 64], 64);
    let narrow = activations(&cpu, &[0.0; 32], 32);
    let mut out = [0.0; 4];
    let mut run = |x, num_rows, len| {
        let (out, mode) = (&mut out[..len], OutputMode::Overwrite);
        let target = MatmulTarget { matrix: &weights, out, mode, runs: &[] };
        matmul(&cpu, x, num_rows, &mut [target], &mut LoraScratch::new())
    };
    let error = KernelError::Shape { op: "matmul", what: "in_features", expected: 32, given: 64 };
    assert_eq!(run(&narrow, 1, 4), Err(error));
    let error = KernelError::Limit { op: "matmul", what: "num_rows", limit: 1, given: 2 };
    assert_eq!(run(&x, 2, 4), Err(error));
    let error = KernelError::TooShort { op: "matmul", what: "out", expected: 4, given: 3 };
    assert_eq!(run(&x, 1, 3), Err(error));
}
