//! Products with adapters: LoRA and DoRA, grouped.

use souk_kernels::OutputMode;
use souk_kernels::cpu::LoraRun;
use souk_kernels::cpu::ops::{LoraScratch, MatmulTarget, matmul};
use souk_kernels::cpu::{Cpu, Isa, LoraPair, Matrix};
use souk_kernels::{KernelError, SlabType, WeightType, reference};

use crate::support::{Random, activations, assert_close, assert_same_bits, backends, matrix};

const RANKS: [usize; 8] = [1, 3, 4, 8, 13, 16, 64, 256];

fn pair(random: &mut Random, rank: usize, in_features: usize, out_features: usize, slab_type: SlabType) -> LoraPair {
    let (a, b) = (random.floats(rank * in_features), random.floats(rank * out_features));
    LoraPair::pack(rank, in_features, out_features, &a, &b, 0.125, slab_type).expect("sizes fit")
}

/// A run without its pair: `(first row, rows, pair, weight)`.
type RunSpec = (usize, usize, usize, f32);

fn runs<'a>(pairs: &'a [LoraPair], specs: &[RunSpec]) -> Vec<LoraRun<'a>> {
    let run = |(first_row, num_rows, at, weight): &RunSpec| LoraRun {
        first_row: *first_row,
        num_rows: *num_rows,
        pair: &pairs[*at],
        weight: *weight,
    };
    specs.iter().map(run).collect()
}

/// The product alone where the specs is empty.
fn apply(cpu: &Cpu, weights: &Matrix, x: &[f32], pairs: &[LoraPair], specs: &[RunSpec]) -> Vec<f32> {
    let num_rows = x.len() / weights.in_features();
    let mut out = vec![f32::NAN; num_rows * weights.out_features()];
    let (x, runs) = (activations(cpu, x, weights.in_features()), runs(pairs, specs));
    let target = MatmulTarget { matrix: weights, out: &mut out, mode: OutputMode::Overwrite, runs: &runs };
    matmul(cpu, &x, num_rows, &mut [target], &mut LoraScratch::new()).expect("shapes fit");
    out
}

/// Each row in an op of its own, by scalars.
fn apply_to_each(weights: &Matrix, x: &[f32], pairs: &[LoraPair], specs: &[RunSpec]) -> Vec<f32> {
    let cpu = Cpu::with_isa(1, Isa::Scalar).expect("always there");
    let rows = x.chunks(weights.in_features()).enumerate();
    rows.flat_map(|(row, x)| apply(&cpu, weights, x, pairs, &specs_of_row(specs, row))).collect()
}

/// The specs's runs on one row, as a specs for that row alone.
fn specs_of_row(specs: &[RunSpec], row: usize) -> Vec<RunSpec> {
    specs
        .iter()
        .filter(|(first, count, _, _)| (*first..first + count).contains(&row))
        .map(|(_, _, at, weight)| (0, 1, *at, *weight))
        .collect()
}

/// Base rows, single adapters, one adapter in several places, several on a row in both orders, empty runs.
fn mixed_specs(num_pairs: usize) -> Vec<RunSpec> {
    let mut specs = vec![(0, 1, 0, 1.0), (2, 7, 1, 1.0), (9, 1, 2, 0.5), (10, 3, 1, 1.0), (13, 0, 0, 1.0)];
    specs.extend([(13, 5, 3, 0.7), (12, 3, 0, -0.3), (15, 3, 1, 2.0), (2, 2, 3, 1.0)]);
    specs.extend((0..num_pairs).map(|at| (18 + at, 1, at, 1.0)));
    specs.extend((0..num_pairs).map(|at| (18 + at, 1, num_pairs - 1 - at, 0.25)));
    specs
}

fn check_mixed(weight_type: WeightType, in_features: usize, out_features: usize, with_gain: bool) {
    let mut random = Random::new(40 + out_features as u64);
    let weights = matrix(&mut random, weight_type, out_features, in_features);
    let pairs: Vec<LoraPair> = RANKS
        .iter()
        .enumerate()
        .map(|(at, rank)| {
            let slab_type = if at % 2 == 0 { SlabType::Bf16 } else { SlabType::F16 };
            let pair = pair(&mut random, *rank, in_features, out_features, slab_type);
            if with_gain && at % 3 != 0 { pair.with_gain(random.floats(out_features)).expect("fits") } else { pair }
        })
        .collect();
    let specs = mixed_specs(pairs.len());
    let num_rows = 18 + pairs.len() + 1;
    let x = random.floats(num_rows * in_features);
    let alone = apply_to_each(&weights, &x, &pairs, &specs);
    let products = apply_to_each(&weights, &x, &pairs, &[]);
    for (row, (x, product)) in x.chunks(in_features).zip(products.chunks(out_features)).enumerate() {
        let mut expected: Vec<f64> = product.iter().map(|value| f64::from(*value)).collect();
        for (_, _, at, weight) in specs_of_row(&specs, row) {
            for (expected, delta) in expected.iter_mut().zip(reference::lora_delta(&pairs[at], x, product)) {
                *expected += f64::from(weight) * delta;
            }
        }
        // The greatest sum of magnitudes: rank 256 by the inputs, times the scale.
        let magnitude = 256.0 * in_features as f64 * 0.125;
        assert_close(&expected, &alone[row * out_features..][..out_features], 1e-7, magnitude, &format!("row {row}"));
    }
    for cpu in backends() {
        let batch = apply(&cpu, &weights, &x, &pairs, &specs);
        assert_same_bits(&alone, &batch, &format!("batch, {:?}, {} threads", cpu.isa(), cpu.num_threads()));
    }
}

#[test]
fn mixed_ranks_and_adapters_agree_with_the_reference_and_with_each_row_alone() {
    check_mixed(WeightType::Q4_1, 96, 112, false);
    check_mixed(WeightType::F32, 37, 19, false);
}

#[test]
fn dora_gains_act_on_the_product_whatever_other_runs_added() {
    check_mixed(WeightType::Q8_0, 64, 80, true);
    check_mixed(WeightType::BF16, 33, 5, true);
}

#[test]
fn targets_share_dispatches_and_give_the_bits_of_each_alone_replaced_or_added() {
    let mut random = Random::new(43);
    let (num_rows, in_features) = (21, 256);
    let sizes = [48, 19, 130, 16, 64, 300];
    let types = [WeightType::Q4_1, WeightType::F16, WeightType::Q6_K];
    let mut at = 0..;
    let matrices = sizes.map(|out| matrix(&mut random, types[at.next().unwrap_or(0) % 3], out, in_features));
    let pairs = sizes.map(|out| {
        let ranks = [8, 5, 16].map(|rank| pair(&mut random, rank, in_features, out, SlabType::Bf16));
        let [plain, gained, wide] = ranks;
        [plain, gained.with_gain(random.floats(out)).expect("fits"), wide]
    });
    let specs: [RunSpec; 6] =
        [(0, 3, 0, 1.0), (3, 9, 2, 0.5), (4, 4, 1, 1.0), (13, 8, 0, 0.25), (13, 1, 1, -1.0), (14, 0, 1, 1.0)];
    // One module without an adapter.
    let plan_of = |module: usize| if module == 3 { &[][..] } else { &specs[..] };
    let all_runs: Vec<_> = pairs.iter().enumerate().map(|(module, pairs)| runs(pairs, plan_of(module))).collect();
    let x = random.floats(num_rows * in_features);
    let alone = matrices.iter().zip(&pairs).enumerate();
    let alone: Vec<Vec<f32>> =
        alone.map(|(at, (matrix, pairs))| apply_to_each(matrix, &x, pairs, plan_of(at))).collect();
    let before = 0.375;
    let modes = [OutputMode::Overwrite, OutputMode::Accumulate];
    for (cpu, mode) in backends().iter().flat_map(|cpu| modes.map(|mode| (cpu, mode))) {
        let x = activations(cpu, &x, in_features);
        let mut given: Vec<Vec<f32>> = sizes.iter().map(|out| vec![before; num_rows * out]).collect();
        let targets = matrices.iter().zip(&mut given).zip(&all_runs);
        let mut targets: Vec<_> =
            targets.map(|((matrix, out), runs)| MatmulTarget { matrix, out, mode, runs }).collect();
        matmul(cpu, &x, num_rows, &mut targets, &mut LoraScratch::new()).expect("shapes fit");
        for (alone, given) in alone.iter().zip(&given) {
            let expected: Vec<f32> = match mode {
                OutputMode::Overwrite => alone.clone(),
                OutputMode::Accumulate => alone.iter().map(|value| before + value).collect(),
            };
            assert_same_bits(&expected, given, &format!("{:?}, {mode:?}", cpu.isa()));
        }
    }
}

#[test]
fn large_ops_split_over_threads_give_the_bits_of_each_row_alone() {
    let mut random = Random::new(42);
    let weights = matrix(&mut random, WeightType::Q4_1, 300, 576);
    let pairs: Vec<LoraPair> = (0..20).map(|at| pair(&mut random, 4 + at, 576, 300, SlabType::Bf16)).collect();
    // Rows 60 to 159 have one pair alone: panels of every height share it, in more shrink units than one.
    let specs: Vec<RunSpec> = (0..20).map(|at| (3 * at, 3, at, 1.0)).chain([(60, 100, 7, 1.0)]).collect();
    let x = random.floats(160 * 576);
    let alone = apply_to_each(&weights, &x, &pairs, &specs);
    for num_threads in [1, 2, 3, 4] {
        assert_same_bits(&alone, &apply(&Cpu::new(num_threads), &weights, &x, &pairs, &specs), "threads");
    }
}

#[test]
fn a_scratch_serves_ops_of_any_size_one_after_another() {
    let mut random = Random::new(43);
    let cpu = Cpu::new(2);
    let sizes = [(8, 300, 5), (2, 20, 1), (16, 100, 9)];
    let cases: Vec<(LoraPair, Matrix, usize)> = sizes
        .map(|(rank, out, num_rows)| {
            let weights = matrix(&mut random, WeightType::Q4_0, out, 96);
            (pair(&mut random, rank, 96, out, SlabType::F16), weights, num_rows)
        })
        .into();
    let x = random.floats(9 * 96);
    let mut scratch = LoraScratch::new();
    for _ in 0..2 {
        for (pair, weights, num_rows) in &cases {
            let x = &x[..num_rows * 96];
            let mut out = vec![f32::NAN; num_rows * weights.out_features()];
            let runs = [LoraRun { first_row: 0, num_rows: *num_rows, pair, weight: 1.0 }];
            let target = MatmulTarget { matrix: weights, out: &mut out, mode: OutputMode::Overwrite, runs: &runs };
            matmul(&cpu, &activations(&cpu, x, 96), *num_rows, &mut [target], &mut scratch).expect("shapes fit");
            let alone = apply_to_each(weights, x, std::slice::from_ref(pair), &[(0, *num_rows, 0, 1.0)]);
            assert_same_bits(&alone, &out, "used again");
        }
    }
    assert!(scratch.size_bytes() > 0);
}

#[test]
fn a_bad_adapter_spoils_its_own_rows_only() {
    let mut random = Random::new(44);
    let good = pair(&mut random, 8, 32, 48, SlabType::Bf16);
    let mut a = random.floats(8 * 32);
    a[17] = f32::NAN;
    let bad = LoraPair::pack(8, 32, 48, &a, &random.floats(8 * 48), 1.0, SlabType::Bf16).expect("sizes fit");
    let pairs = [good, bad];
    let weights = matrix(&mut random, WeightType::Q8_0, 48, 32);
    let x = random.floats(6 * 32);
    for cpu in backends() {
        let clean = apply(&cpu, &weights, &x, &pairs, &[(0, 6, 0, 1.0)]);
        let out = apply(&cpu, &weights, &x, &pairs, &[(0, 2, 0, 1.0), (2, 1, 1, 1.0), (3, 3, 0, 1.0)]);
        assert_same_bits(&clean[..2 * 48], &out[..2 * 48], "rows before");
        assert_same_bits(&clean[3 * 48..], &out[3 * 48..], "rows after");
        assert!(out[2 * 48..3 * 48].iter().all(|value| value.is_nan()));
    }
}

#[test]
fn pairs_and_runs_that_do_not_fit_are_refused() {
    let pack = |rank, a: usize, b: usize| LoraPair::pack(rank, 4, 3, &vec![0.0; a], &vec![0.0; b], 1.0, SlabType::F16);
    assert!(pack(2, 8, 6).is_ok());
    assert!(pack(2, 7, 6).is_err());
    assert!(pack(2, 8, 5).is_err());
    assert!(pack(257, 257 * 4, 257 * 3).is_err());
    assert!(pack(2, 8, 6).and_then(|pair| pair.with_gain(vec![1.0; 2])).is_err());
    assert_eq!(pack(2, 8, 6).expect("fits").size_bytes(), 2 * 32 + 2 * 32);

    let (cpu, pair) = (Cpu::new(1), pack(2, 8, 6).expect("fits"));
    let run = |first_row, num_rows, out_features, in_features| {
        let weights = matrix(&mut Random::new(1), WeightType::F32, out_features, in_features);
        let runs = [LoraRun { first_row, num_rows, pair: &pair, weight: 1.0 }];
        let mut out = vec![0.0; 2 * out_features];
        let x = activations(&cpu, &vec![0.0; 2 * in_features], in_features);
        let target = MatmulTarget { matrix: &weights, out: &mut out, mode: OutputMode::Overwrite, runs: &runs };
        matmul(&cpu, &x, 2, &mut [target], &mut LoraScratch::new())
    };
    assert_eq!(run(0, 2, 3, 4), Ok(()));
    let limit = KernelError::Limit { op: "matmul", what: "end of a run", limit: 2, given: 3 };
    assert_eq!(run(1, 2, 3, 4), Err(limit));
    assert!(matches!(run(usize::MAX, 2, 3, 4), Err(KernelError::Limit { .. })));
    let shape = |what, expected, given| Err(KernelError::Shape { op: "matmul", what, expected, given });
    assert_eq!(run(0, 2, 4, 4), shape("out_features of a pair", 4, 3));
    assert_eq!(run(0, 2, 3, 5), shape("in_features of a pair", 5, 4));
}
