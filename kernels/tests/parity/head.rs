//! The output head with a choice instead of logits.

use souk_kernels::cpu::LoraRun;
use souk_kernels::cpu::ops::{HeadScratch, LoraScratch, MatmulTarget, head, matmul};
use souk_kernels::cpu::{Cpu, LoraPair, Matrix};
use souk_kernels::{HeadOutput, OutputMode};
use souk_kernels::{KernelError, SlabType, WeightType};

use crate::support::{Random, activations, assert_same_bits, backends, matrix, matrix_bytes};

fn outputs(cpu: &Cpu, weights: &Matrix, runs: &[LoraRun<'_>], x: &[f32], num_rows: usize) -> Vec<f32> {
    let x = activations(cpu, x, weights.in_features());
    let mut out = vec![f32::NAN; num_rows * weights.out_features()];
    let mode = OutputMode::Overwrite;
    let target = MatmulTarget { matrix: weights, out: &mut out, mode, runs };
    matmul(cpu, &x, num_rows, &mut [target], &mut LoraScratch::new()).expect("shapes fit");
    out
}

/// What a scan over the whole row chooses.
fn choice(row: &[f32]) -> Option<u32> {
    let best = (0..).zip(row).reduce(|best, next| if next.1 > best.1 { next } else { best })?;
    row.iter().all(|value| value.is_finite()).then_some(best.0)
}

fn check(cpu: &Cpu, weights: &Matrix, runs: &[LoraRun<'_>], x: &[f32], num_rows: usize, num_written: usize) {
    let out_features = weights.out_features();
    let expected = outputs(cpu, weights, runs, x, num_rows);
    let rows = activations(cpu, x, weights.in_features());
    let mut logits = vec![7.0; num_written * out_features];
    let mut best = vec![Some(u32::MAX); num_rows - num_written];
    let mut scratch = HeadScratch::default();
    for _ in 0..2 {
        let output = HeadOutput { logits: &mut logits, num_written, best: &mut best };
        head(cpu, &rows, num_rows, weights, runs, output, &mut scratch).expect("shapes fit");
        assert_same_bits(&expected[..num_written * out_features], &logits, "written rows");
        let choices: Vec<_> = expected.chunks(out_features).skip(num_written).map(choice).collect();
        assert_eq!(best, choices, "{:?}, {num_rows} rows, {num_written} written", cpu.isa());
    }
}

#[test]
fn the_choice_is_that_of_a_scan_over_the_outputs_of_a_matmul() {
    let mut random = Random::new(70);
    for weight_type in WeightType::ALL {
        for out_features in [1, 16, 53, 1030] {
            let weights = matrix(&mut random, weight_type, out_features, 256);
            let mut x = random.floats(19 * 256);
            x[4 * 256 + 7] = f32::NAN;
            x[11 * 256] = f32::INFINITY;
            // All outputs are zero: the first is the best.
            x[6 * 256..7 * 256].fill(0.0);
            for cpu in backends() {
                for (num_rows, num_written) in [(1, 0), (1, 1), (2, 1), (7, 0), (8, 3), (19, 0), (19, 10), (19, 19)] {
                    check(&cpu, &weights, &[], &x[..num_rows * 256], num_rows, num_written);
                }
            }
        }
    }
}

#[test]
fn the_choice_sees_what_adapters_add() {
    let mut random = Random::new(71);
    let weights = matrix(&mut random, WeightType::Q8_0, 300, 64);
    let pairs = [3, 8, 16].map(|rank| {
        let (a, b) = (random.floats(rank * 64), random.floats(rank * 300));
        LoraPair::pack(rank, 64, 300, &a, &b, 0.5, SlabType::Bf16).expect("sizes fit")
    });
    let run = |first_row, num_rows, pair: usize| LoraRun { first_row, num_rows, pair: &pairs[pair], weight: 1.0 };
    let runs = [run(1, 2, 0), run(4, 9, 1), run(5, 3, 2), run(14, 1, 0)];
    let x = random.floats(17 * 64);
    let choices = |runs: &[LoraRun<'_>]| -> Vec<_> {
        outputs(&Cpu::new(1), &weights, runs, &x, 17).chunks(300).map(choice).collect()
    };
    assert_ne!(choices(&runs), choices(&[]));
    for cpu in backends() {
        for num_written in [0, 5, 13, 17] {
            check(&cpu, &weights, &runs, &x, 17, num_written);
        }
    }
    let rows = activations(&Cpu::new(1), &x, 64);
    let output = HeadOutput { logits: &mut [], num_written: 0, best: &mut [None; 3] };
    let error = head(&Cpu::new(1), &rows, 3, &weights, &runs, output, &mut HeadScratch::default());
    assert_eq!(error, Err(KernelError::Limit { op: "head", what: "end of a run", limit: 3, given: 13 }));
}

#[test]
fn outputs_below_zero_and_equal_ones_are_chosen_rightly() {
    for cpu in backends() {
        // Each weight is -1, or -0.5 at two outputs in different chunks: the first of those is the best.
        let out_features = 2000;
        let weight = |output: usize| if output == 777 || output == 1999 { -0.5_f32 } else { -1.0 };
        let bytes: Vec<u8> = (0..out_features).flat_map(|output| weight(output).to_le_bytes()).collect();
        let weights = Matrix::pack(WeightType::F32, out_features, 1, &bytes, None).expect("sizes fit");
        let rows = activations(&cpu, &[1.0, 2.0], 1);
        let mut best = [None; 2];
        let output = HeadOutput { logits: &mut [], num_written: 0, best: &mut best };
        head(&cpu, &rows, 2, &weights, &[], output, &mut HeadScratch::default()).expect("shapes fit");
        assert_eq!(best, [Some(777); 2], "{:?}", cpu.isa());
    }
}

#[test]
fn no_row_is_fine_and_short_buffers_are_refused() {
    let cpu = Cpu::new(1);
    let bytes = matrix_bytes(&mut Random::new(1), WeightType::Q8_0, 4, 32);
    let weights = Matrix::pack(WeightType::Q8_0, 4, 32, &bytes, None).expect("sizes fit");
    let rows = activations(&cpu, &[1.0; 64], 32);
    let run = |num_rows, num_written, logits: &mut [f32], best: &mut [Option<u32>]| {
        let output = HeadOutput { logits, num_written, best };
        head(&cpu, &rows, num_rows, &weights, &[], output, &mut HeadScratch::default())
    };
    assert_eq!(run(0, 0, &mut [], &mut []), Ok(()));
    let short = |what, expected, given| Err(KernelError::TooShort { op: "head", what, expected, given });
    assert_eq!(run(2, 0, &mut [], &mut [None]), short("best", 2, 1));
    assert_eq!(run(2, 1, &mut [0.0; 3], &mut [None]), short("out", 4, 3));
    let error = KernelError::Limit { op: "head", what: "num_written", limit: 2, given: 3 };
    assert_eq!(run(2, 3, &mut [0.0; 12], &mut []), Err(error));
}
