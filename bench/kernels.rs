//! Times every op at the sizes of a small llama (576 wide, 1536 inside, 9 heads of 64 over 3), after checking its
//! result.
//!
//! `cargo bench -p souk-bench --bench kernels [-- [threads,threads,...] [name part] [scalar|avx2|avx512]]`
//!
//! Prints the machine's own limits first, so that each figure can be read as a share. Each line has the time that one
//! run in twenty stays below, the median, and the rates at the first: on a machine that does other work as well, it is
//! the better guide. Matmuls rotate through more weights than the caches hold.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::{Duration, Instant};

use souk_kernels::cpu::ops::{
    AttentionScratch, LoraScratch, MatmulTarget, attention, matmul, quantize, rms_norm, rope_store, swiglu,
};
use souk_kernels::cpu::{Activations, Cpu, Isa, KvCache, LoraPair, LoraRun, MachineLimits, Matrix, RopeTable};
use souk_kernels::{AttentionSpan, NormWeights, OutputMode, RowSelection};
use souk_kernels::{KernelError, SlabType, WeightType, reference};
use souk_testkit::Random;

const HIDDEN: usize = 576;
const INNER: usize = 1536;
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const HEAD_DIM: usize = 64;
/// More than the last-level cache of the machines we know.
const BEYOND_CACHE_BYTES: usize = 160 << 20;
/// Runs are short, so that many of them meet nobody else on the core.
const SHORTEST_RUN: Duration = Duration::from_micros(20);
const FEWEST_RUNS: usize = 20;
const TIME_PER_LINE: Duration = Duration::from_millis(300);

fn main() -> Result<(), KernelError> {
    // Cargo adds a flag of its own.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let threads = arguments.next().unwrap_or_else(|| "1,2".into());
    let filter = arguments.next().unwrap_or_default();
    let isa = match arguments.next().as_deref() {
        Some("scalar") => Isa::Scalar,
        Some("avx2") => Isa::Avx2,
        Some("avx512") => Isa::Avx512,
        _ => Cpu::new(1).isa(),
    };
    for num_threads in threads.split(',').filter_map(|number| number.parse().ok()) {
        let bench = Bench { cpu: Cpu::with_isa(num_threads, isa)?, filter: filter.clone() };
        println!("## {} threads, {:?}", bench.cpu.num_threads(), bench.cpu.isa());
        bench.limits();
        bench.matmuls()?;
        bench.adapters()?;
        bench.attentions()?;
        bench.rows()?;
    }
    Ok(())
}

struct Bench {
    cpu: Cpu,
    filter: String,
}

/// What a run of an op does, for the rate.
#[derive(Clone, Copy, Default)]
struct Work {
    operations: f64,
    bytes: f64,
}

impl Bench {
    fn wanted(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Times `op`, which does `work` each time, and prints a line.
    fn time(&self, name: &str, work: Work, mut op: impl FnMut() -> Result<(), KernelError>) -> Result<(), KernelError> {
        let _step = self.cpu.enter();
        op()?;
        let since = Instant::now();
        op()?;
        let calls_per_run = (SHORTEST_RUN.as_nanos() / since.elapsed().as_nanos().max(1) + 1) as u32;
        let mut seconds = Vec::new();
        let start = Instant::now();
        while start.elapsed() < TIME_PER_LINE || seconds.len() < FEWEST_RUNS {
            let since = Instant::now();
            for _ in 0..calls_per_run {
                op()?;
            }
            seconds.push(since.elapsed().as_secs_f64() / f64::from(calls_per_run));
        }
        seconds.sort_by(f64::total_cmp);
        let (best, median) = (seconds[seconds.len() / 20], seconds[seconds.len() / 2]);
        let (gops, gbs) = (work.operations / best / 1e9, work.bytes / best / 1e9);
        println!("{name:<44} {:>9.2} us {:>9.2} us {gops:>7.1} GOP/s {gbs:>6.2} GB/s", best * 1e6, median * 1e6);
        Ok(())
    }

    fn limits(&self) {
        let limits = MachineLimits::measure(&self.cpu);
        println!(
            "limits: read {:.1} GB/s, int8 {:.0} GOP/s, f32 {:.0} GFLOP/s, fork and join {:.2} us",
            limits.read_bytes_per_second / 1e9,
            limits.int8_operations_per_second / 1e9,
            limits.f32_operations_per_second / 1e9,
            limits.fork_join_seconds * 1e6
        );
    }

    fn matmuls(&self) -> Result<(), KernelError> {
        use WeightType::{BF16, F16, F32, Q4_0, Q4_1, Q4_K, Q6_K, Q8_0};
        for weight_type in [Q4_0, Q4_1, Q8_0, Q4_K, Q6_K, F16, BF16, F32] {
            let in_features = if weight_type.block_len() == 256 { INNER / 2 } else { HIDDEN };
            let name = format!("matmul {weight_type:?} {INNER}x{in_features}");
            if !self.wanted(&name) {
                continue;
            }
            let first = made_up_matrix(weight_type, INNER, in_features, 0)?;
            check_matmul(&self.cpu, &first)?;
            let num_matrices = BEYOND_CACHE_BYTES / first.size_bytes();
            let mut matrices = vec![first];
            for seed in 1..num_matrices {
                matrices.push(made_up_matrix(weight_type, INNER, in_features, seed as u64)?);
            }
            for num_rows in [1, 4, 8, 16, 64, 512] {
                let mut x = Activations::new(num_rows, in_features);
                quantize(&self.cpu, &floats(num_rows * in_features, 3), num_rows, &mut x)?;
                let mut out = vec![0.0; num_rows * INNER];
                let work = Work {
                    operations: 2.0 * (num_rows * INNER * in_features) as f64,
                    bytes: matrices[0].size_bytes() as f64,
                };
                let mut at = 0;
                self.time(&format!("{name}, {num_rows} rows"), work, || {
                    at = (at + 1) % matrices.len();
                    let mode = OutputMode::Overwrite;
                    let target = MatmulTarget { matrix: &matrices[at], out: &mut out, mode, runs: &[] };
                    matmul(&self.cpu, &x, num_rows, &mut [target], &mut LoraScratch::new())
                })?;
            }
        }
        Ok(())
    }

    fn adapters(&self) -> Result<(), KernelError> {
        for (num_rows, num_pairs, rank) in [(1, 1, 8), (16, 16, 8), (32, 25, 16), (512, 1, 16), (512, 4, 64)] {
            let name = format!("adapted {INNER}x{HIDDEN} r={rank}, {num_pairs} pairs, {num_rows} rows");
            if !self.wanted(&name) {
                continue;
            }
            let make = |seed: usize| {
                let (a, b) = (floats(rank * HIDDEN, seed as u64), floats(rank * INNER, seed as u64 + 9));
                LoraPair::pack(rank, HIDDEN, INNER, &a, &b, 1.0, SlabType::Bf16)
            };
            // Several modules' worth of pairs, so that decoding does not find them in the nearest cache.
            let num_sets = (64 << 20) / (num_pairs * make(0)?.size_bytes());
            let sets: Vec<Vec<LoraPair>> =
                (0..num_sets).map(|set| (0..num_pairs).map(|at| make(set + at)).collect()).collect::<Result<_, _>>()?;
            let rows_of = |at: usize| (at * num_rows / num_pairs, (at + 1) * num_rows / num_pairs);
            let runs: Vec<Vec<LoraRun<'_>>> = sets
                .iter()
                .map(|pairs| {
                    let run = |(at, pair)| {
                        let (first_row, end) = rows_of(at);
                        LoraRun { first_row, num_rows: end - first_row, pair, weight: 1.0 }
                    };
                    pairs.iter().enumerate().map(run).collect()
                })
                .collect();
            let values = floats(num_rows * HIDDEN, 1);
            let mut x = Activations::new(num_rows, HIDDEN);
            quantize(&self.cpu, &values, num_rows, &mut x)?;
            let (matrix, mode) = (made_up_matrix(WeightType::Q4_1, INNER, HIDDEN, 7)?, OutputMode::Overwrite);
            let mut out = vec![0.0; num_rows * INNER];
            let mut scratch = LoraScratch::new();
            let mut product = |out: &mut [f32], runs: &[LoraRun<'_>]| {
                matmul(&self.cpu, &x, num_rows, &mut [MatmulTarget { matrix: &matrix, out, mode, runs }], &mut scratch)
            };
            product(&mut out, &[])?;
            let base = out[..INNER].to_vec();
            product(&mut out, &runs[0])?;
            let delta = reference::lora_delta(&sets[0][0], &values[..HIDDEN], &base);
            let expected: Vec<f64> = base.iter().zip(delta).map(|(base, delta)| f64::from(*base) + delta).collect();
            assert_near(&expected, &out[..INNER], 1e-3);
            let base_work =
                Work { operations: 2.0 * (num_rows * INNER * HIDDEN) as f64, bytes: matrix.size_bytes() as f64 };
            self.time(&format!("{name}: without"), base_work, || product(&mut out, &[]))?;
            let work = Work {
                operations: base_work.operations + 2.0 * (num_rows * rank * (HIDDEN + INNER)) as f64,
                bytes: base_work.bytes + (num_pairs * sets[0][0].size_bytes()) as f64,
            };
            let mut at = 0;
            self.time(&name, work, || {
                at = (at + 1) % runs.len();
                product(&mut out, &runs[at])
            })?;
        }
        Ok(())
    }

    fn attentions(&self) -> Result<(), KernelError> {
        const LAYERS: usize = 30;
        for (num_sequences, num_rows, length) in [(1, 1, 256), (1, 1, 1024), (16, 1, 512), (1, 64, 512), (1, 512, 512)]
        {
            let name = format!("attention {num_sequences} x {num_rows} rows at {length}");
            if !self.wanted(&name) {
                continue;
            }
            let num_blocks = length / 16;
            let mut cache = KvCache::new(LAYERS, num_sequences * num_blocks, KV_HEADS, HEAD_DIM);
            self.fill(&mut cache, LAYERS)?;
            let blocks: Vec<u32> = (0..(num_sequences * num_blocks) as u32).collect();
            let spans: Vec<AttentionSpan<'_>> = blocks
                .chunks(num_blocks)
                .enumerate()
                .map(|(at, blocks)| AttentionSpan {
                    first_row: at * num_rows,
                    num_rows,
                    first_position: length - num_rows,
                    blocks,
                })
                .collect();
            let q = floats(num_sequences * num_rows * HEADS * HEAD_DIM, 5);
            let (mut out, mut scratch) = (vec![0.0; q.len()], AttentionScratch::default());
            let visible: usize = (length - num_rows..length).map(|position| position + 1).sum();
            let work = Work {
                operations: (4 * num_sequences * visible * HEADS * HEAD_DIM) as f64,
                bytes: (num_sequences * length * KV_HEADS * HEAD_DIM * 4) as f64,
            };
            let mut layer = 0;
            self.time(&name, work, || {
                layer = (layer + 1) % LAYERS;
                attention(&self.cpu, &q, HEADS, &cache, layer, &spans, &mut out, &mut scratch)
            })?;
        }
        Ok(())
    }

    fn fill(&self, cache: &mut KvCache, num_layers: usize) -> Result<(), KernelError> {
        let num_slots = cache.num_blocks() * 16;
        let rope = RopeTable::new(HEAD_DIM, 10_000.0, num_slots);
        let slots: Vec<u32> = (0..num_slots as u32).collect();
        let values = floats(num_slots * KV_HEADS * HEAD_DIM, 2);
        for layer in 0..num_layers {
            let (mut q, mut k) = (values.clone(), values.clone());
            rope_store(&self.cpu, &rope, &mut q, &mut k, &values, &slots, &slots, KV_HEADS, cache, layer)?;
        }
        Ok(())
    }

    fn rows(&self) -> Result<(), KernelError> {
        for num_rows in [1, 16, 512] {
            let (x, inner) = (floats(num_rows * HIDDEN, 1), floats(num_rows * INNER, 2));
            let weights = vec![1.0; HIDDEN];
            let mut hidden_out = Activations::new(num_rows, HIDDEN);
            let mut inner_out = Activations::new(num_rows, INNER);
            let bytes = |cols: usize| Work { bytes: (num_rows * cols * 4) as f64, operations: 0.0 };
            let name = format!("rms_norm {num_rows} rows");
            if self.wanted(&name) {
                let weights = NormWeights { base: &weights, overrides: &[] };
                self.time(&name, bytes(2 * HIDDEN), || {
                    rms_norm(&self.cpu, &x, RowSelection::All(num_rows), weights, 1e-5, &mut hidden_out)
                })?;
                let expected = reference::rms_norm(&x[..HIDDEN], weights.base, 1e-5);
                assert_near(&expected, &hidden_out.f32()[..HIDDEN], 1e-5);
            }
            let name = format!("swiglu {num_rows} rows");
            if self.wanted(&name) {
                self.time(&name, bytes(3 * INNER), || swiglu(&self.cpu, &inner, &inner, num_rows, &mut inner_out))?;
                let expected = reference::swiglu(&inner[..INNER], &inner[..INNER]);
                assert_near(&expected, &inner_out.f32()[..INNER], 1e-5);
            }
            let name = format!("rope_store {num_rows} rows");
            if self.wanted(&name) {
                let rope = RopeTable::new(HEAD_DIM, 10_000.0, num_rows);
                let mut cache = KvCache::new(1, num_rows.div_ceil(16), KV_HEADS, HEAD_DIM);
                let at: Vec<u32> = (0..num_rows as u32).collect();
                let (mut q, mut k) = (x.clone(), floats(num_rows * KV_HEADS * HEAD_DIM, 4));
                let v = k.clone();
                self.time(&name, bytes(HIDDEN + 2 * KV_HEADS * HEAD_DIM), || {
                    rope_store(&self.cpu, &rope, &mut q, &mut k, &v, &at, &at, HEADS, &mut cache, 0)
                })?;
            }
        }
        Ok(())
    }
}

/// Numbers between -1 and 1 that repeat.
fn floats(count: usize, seed: u64) -> Vec<f32> {
    Random::new(seed).floats(count)
}

/// Any quants, and half floats that are finite and small.
fn made_up_matrix(
    weight_type: WeightType,
    out_features: usize,
    in_features: usize,
    seed: u64,
) -> Result<Matrix, KernelError> {
    let num_bytes = out_features * in_features / weight_type.block_len() * weight_type.block_bytes();
    // High bytes of half floats below 0x40 keep them below 2.
    let bytes: Vec<u8> = floats(num_bytes, seed).into_iter().map(|value| ((value + 1.0) * 16.0) as u8 & 0x3f).collect();
    Matrix::pack(weight_type, out_features, in_features, &bytes, None)
}

fn check_matmul(cpu: &Cpu, matrix: &Matrix) -> Result<(), KernelError> {
    let mut x = Activations::new(1, matrix.in_features());
    quantize(cpu, &floats(matrix.in_features(), 8), 1, &mut x)?;
    let mut out = vec![0.0; matrix.out_features()];
    let target = MatmulTarget { matrix, out: &mut out, mode: OutputMode::Overwrite, runs: &[] };
    matmul(cpu, &x, 1, &mut [target], &mut LoraScratch::new())?;
    let seen = if matrix.weight_type().block_len() == 1 { x.f32().to_vec() } else { x.dequantized_row(0) };
    assert_near(&reference::matmul(matrix, &seen), &out, 1e-5);
    Ok(())
}

/// Panics unless all values are within `tolerance` of the greatest expected magnitude.
fn assert_near(expected: &[f64], given: &[f32], tolerance: f64) {
    let magnitude = expected.iter().fold(1e-30_f64, |highest, value| highest.max(value.abs()));
    for (expected, given) in expected.iter().zip(given) {
        assert!((expected - f64::from(*given)).abs() <= tolerance * magnitude, "{given}, should be {expected}");
    }
}
