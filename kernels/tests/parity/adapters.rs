//! Grouped LoRA and DoRA.

use souk_kernels::ops::{
    AdaptedTarget, LoraRun, LoraScratch, LoraTarget, MatmulTarget, OutputMode, adapted_matmul, lora, matmul,
};
use souk_kernels::{Cpu, Isa, KernelError, LoraPair, SlabType, WeightType, reference};

use crate::support::{Random, activations, assert_close, assert_same_bits, backends, matrix};

const RANKS: [usize; 8] = [1, 3, 4, 8, 13, 16, 64, 256];

fn pair(random: &mut Random, rank: usize, in_features: usize, out_features: usize, slab_type: SlabType) -> LoraPair {
    let (a, b) = (random.floats(rank * in_features), random.floats(rank * out_features));
    LoraPair::pack(rank, in_features, out_features, &a, &b, 0.125, slab_type).expect("sizes fit")
}

/// A run without its pair: `(first row, rows, pair, weight)`.
type Plan = (usize, usize, usize, f32);

fn apply(cpu: &Cpu, x: &[f32], base: &[f32], pairs: &[LoraPair], plan: &[Plan]) -> Vec<f32> {
    let (in_features, out_features) = (pairs[0].in_features(), pairs[0].out_features());
    let runs: Vec<LoraRun<'_>> = plan
        .iter()
        .map(|(first_row, num_rows, at, weight)| LoraRun {
            first_row: *first_row,
            num_rows: *num_rows,
            pair: &pairs[*at],
            weight: *weight,
        })
        .collect();
    let mut out = base.to_vec();
    let target = LoraTarget { runs: &runs, out: &mut out, out_features };
    lora(cpu, &activations(cpu, x, in_features), x.len() / in_features, &mut [target], &mut LoraScratch::new())
        .expect("shapes fit");
    out
}

/// The plan's runs on one row, as a plan for that row alone.
fn plan_of_row(plan: &[Plan], row: usize) -> Vec<Plan> {
    plan.iter()
        .filter(|(first, count, _, _)| (*first..first + count).contains(&row))
        .map(|(_, _, at, weight)| (0, 1, *at, *weight))
        .collect()
}

/// Base rows, single adapters, one adapter in several places, several on a row in both orders, empty runs.
fn mixed_plan(num_pairs: usize) -> Vec<Plan> {
    let mut plan = vec![(0, 1, 0, 1.0), (2, 7, 1, 1.0), (9, 1, 2, 0.5), (10, 3, 1, 1.0), (13, 0, 0, 1.0)];
    plan.extend([(13, 5, 3, 0.7), (12, 3, 0, -0.3), (15, 3, 1, 2.0), (2, 2, 3, 1.0)]);
    plan.extend((0..num_pairs).map(|at| (18 + at, 1, at, 1.0)));
    plan.extend((0..num_pairs).map(|at| (18 + at, 1, num_pairs - 1 - at, 0.25)));
    plan
}

fn check_mixed(in_features: usize, out_features: usize, with_gain: bool) {
    let mut random = Random::new(40 + out_features as u64);
    let pairs: Vec<LoraPair> = RANKS
        .iter()
        .enumerate()
        .map(|(at, rank)| {
            let slab_type = if at % 2 == 0 { SlabType::Bf16 } else { SlabType::F16 };
            let pair = pair(&mut random, *rank, in_features, out_features, slab_type);
            if with_gain && at % 3 != 0 { pair.with_gain(random.floats(out_features)).expect("fits") } else { pair }
        })
        .collect();
    let plan = mixed_plan(pairs.len());
    let num_rows = 18 + pairs.len() + 1;
    let (x, base) = (random.floats(num_rows * in_features), random.floats(num_rows * out_features));
    let rows = || x.chunks(in_features).zip(base.chunks(out_features)).enumerate();
    let scalar = Cpu::with_isa(1, Isa::Scalar).expect("always there");
    let alone: Vec<f32> =
        rows().flat_map(|(row, (x, base))| apply(&scalar, x, base, &pairs, &plan_of_row(&plan, row))).collect();
    for (row, (x, base)) in rows() {
        let mut expected: Vec<f64> = base.iter().map(|value| f64::from(*value)).collect();
        for (_, _, at, weight) in plan_of_row(&plan, row) {
            for (expected, delta) in expected.iter_mut().zip(reference::lora_delta(&pairs[at], x, base)) {
                *expected += f64::from(weight) * delta;
            }
        }
        // The greatest sum of magnitudes: rank 256 by the inputs, times the scale.
        let magnitude = 256.0 * in_features as f64 * 0.125;
        assert_close(&expected, &alone[row * out_features..][..out_features], 1e-7, magnitude, &format!("row {row}"));
    }
    for cpu in backends() {
        assert_same_bits(&alone, &apply(&cpu, &x, &base, &pairs, &plan), &format!("batch, {:?}", cpu.isa()));
    }
}

#[test]
fn mixed_ranks_and_adapters_agree_with_the_reference_and_with_each_row_alone() {
    check_mixed(96, 112, false);
    check_mixed(37, 19, false);
}

#[test]
fn dora_gains_act_on_the_output_as_it_was_before_the_op() {
    check_mixed(64, 80, true);
    check_mixed(33, 5, true);
}

#[test]
fn products_with_adapters_are_the_product_and_then_the_adapters_to_the_bit() {
    let mut random = Random::new(43);
    let (num_rows, in_features) = (21, 256);
    let sizes = [48, 19, 130, 16, 64, 300];
    let matrices = sizes.map(|out| matrix(&mut random, WeightType::Q4_1, out, in_features));
    let pairs = sizes.map(|out| {
        let ranks = [8, 5, 16].map(|rank| pair(&mut random, rank, in_features, out, SlabType::Bf16));
        let [plain, gained, wide] = ranks;
        [plain, gained.with_gain(random.floats(out)).expect("fits"), wide]
    });
    let plan: [Plan; 6] =
        [(0, 3, 0, 1.0), (3, 9, 2, 0.5), (4, 4, 1, 1.0), (13, 8, 0, 0.25), (13, 1, 1, -1.0), (14, 0, 1, 1.0)];
    let runs: Vec<Vec<LoraRun<'_>>> = pairs
        .iter()
        .enumerate()
        .map(|(module, pairs)| {
            // One module without an adapter.
            let plan = if module == 3 { &[][..] } else { &plan[..] };
            let run = |(first_row, num_rows, at, weight): &Plan| LoraRun {
                first_row: *first_row,
                num_rows: *num_rows,
                pair: &pairs[*at],
                weight: *weight,
            };
            plan.iter().map(run).collect()
        })
        .collect();
    let x = random.floats(num_rows * in_features);
    for cpu in backends() {
        let x = activations(&cpu, &x, in_features);
        let mut scratch = LoraScratch::new();
        let mut expected: Vec<Vec<f32>> = sizes.iter().map(|out| vec![f32::NAN; num_rows * out]).collect();
        for ((matrix, runs), out) in matrices.iter().zip(&runs).zip(&mut expected) {
            let target = MatmulTarget { matrix, out, mode: OutputMode::Overwrite };
            matmul(&cpu, &x, num_rows, &mut [target]).expect("shapes fit");
            let target = LoraTarget { runs, out, out_features: matrix.out_features() };
            lora(&cpu, &x, num_rows, &mut [target], &mut scratch).expect("shapes fit");
        }
        let mut given: Vec<Vec<f32>> = sizes.iter().map(|out| vec![f32::NAN; num_rows * out]).collect();
        let targets = matrices.iter().zip(&mut given).zip(&runs);
        let mut targets: Vec<_> = targets.map(|((matrix, out), runs)| AdaptedTarget { matrix, out, runs }).collect();
        adapted_matmul(&cpu, &x, num_rows, &mut targets, &mut scratch).expect("shapes fit");
        for (expected, given) in expected.iter().zip(&given) {
            assert_same_bits(expected, given, &format!("{:?}", cpu.isa()));
        }
    }
}

#[test]
fn large_ops_split_over_threads_give_the_same_bits() {
    let mut random = Random::new(42);
    let pairs: Vec<LoraPair> = (0..20).map(|at| pair(&mut random, 4 + at, 576, 1536, SlabType::Bf16)).collect();
    let plan: Vec<Plan> = (0..20).map(|at| (3 * at, 3, at, 1.0)).chain([(60, 40, 7, 1.0)]).collect();
    let (x, base) = (random.floats(100 * 576), random.floats(100 * 1536));
    let one = apply(&Cpu::new(1), &x, &base, &pairs, &plan);
    for num_threads in [2, 3, 4] {
        assert_same_bits(&one, &apply(&Cpu::new(num_threads), &x, &base, &pairs, &plan), "threads");
    }
}

#[test]
fn a_scratch_serves_targets_of_any_size_one_after_another() {
    let mut random = Random::new(43);
    let cpu = Cpu::new(2);
    let pairs: Vec<LoraPair> =
        [(8, 300), (2, 20), (16, 100)].map(|(rank, out)| pair(&mut random, rank, 48, out, SlabType::F16)).into();
    let x = random.floats(5 * 48);
    let rows = activations(&cpu, &x, 48);
    let mut scratch = LoraScratch::new();
    for _ in 0..2 {
        let mut outs: Vec<Vec<f32>> = pairs.iter().map(|pair| vec![0.5; 5 * pair.out_features()]).collect();
        let runs: Vec<[LoraRun<'_>; 1]> =
            pairs.iter().map(|pair| [LoraRun { first_row: 1, num_rows: 3, pair, weight: 1.0 }]).collect();
        let mut targets: Vec<LoraTarget<'_>> = runs
            .iter()
            .zip(&pairs)
            .zip(&mut outs)
            .map(|((runs, pair), out)| LoraTarget { runs, out, out_features: pair.out_features() })
            .collect();
        lora(&cpu, &rows, 5, &mut targets, &mut scratch).expect("shapes fit");
        for (pair, out) in pairs.iter().zip(&outs) {
            let base = vec![0.5; out.len()];
            assert_same_bits(&apply(&cpu, &x, &base, std::slice::from_ref(pair), &[(1, 3, 0, 1.0)]), out, "shared");
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
    let (x, base) = (random.floats(6 * 32), random.floats(6 * 48));
    for cpu in backends() {
        let clean = apply(&cpu, &x, &base, &pairs, &[(0, 6, 0, 1.0)]);
        let out = apply(&cpu, &x, &base, &pairs, &[(0, 2, 0, 1.0), (2, 1, 1, 1.0), (3, 3, 0, 1.0)]);
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
    let run = |first_row, num_rows, out_features, width| {
        let runs = [LoraRun { first_row, num_rows, pair: &pair, weight: 1.0 }];
        let mut out = vec![0.0; 2 * out_features];
        let x = activations(&cpu, &vec![0.0; 2 * width], width);
        let targets = &mut [LoraTarget { runs: &runs, out: &mut out, out_features }];
        lora(&cpu, &x, 2, targets, &mut LoraScratch::new())
    };
    assert_eq!(run(0, 2, 3, 4), Ok(()));
    let limit = KernelError::Limit { op: "lora", what: "end of a run", limit: 2, given: 3 };
    assert_eq!(run(1, 2, 3, 4), Err(limit));
    assert!(run(0, 2, 4, 4).is_err());
    assert!(run(0, 2, 3, 5).is_err());
}
