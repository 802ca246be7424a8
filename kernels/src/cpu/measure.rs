//! What this machine can do at best, measured: the figures that a profile is read against.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cpu::backend::{Cpu, Kernel};
use crate::cpu::isa::simd::Simd;

/// More than the last-level cache of the machines we know.
const BEYOND_CACHE_BYTES: usize = 160 << 20;
/// Read at a time: a run is short, so that many of them meet nobody else on the core.
const PIECE_BYTES: usize = 2 << 20;
/// Time per figure.
const TIME_PER_LIMIT: Duration = Duration::from_millis(400);

/// Limits of a machine with the threads and the instruction set of a [`Cpu`]. Each is the best that was seen.
#[derive(Clone, Copy, Debug)]
pub struct MachineLimits {
    /// Reading of memory that is in no cache.
    pub read_bytes_per_second: f64,
    /// Multiplications and additions of int8 by the instruction that the matmul uses.
    pub int8_operations_per_second: f64,
    /// Multiplications and additions of f32.
    pub f32_operations_per_second: f64,
    /// From the start of a dispatch in which every thread takes part to its end, without any work.
    pub fork_join_seconds: f64,
}

impl MachineLimits {
    /// Measures for about two seconds.
    pub fn measure(cpu: &Cpu) -> MachineLimits {
        let _step = cpu.enter();
        MachineLimits {
            read_bytes_per_second: read(cpu),
            int8_operations_per_second: int8(cpu),
            f32_operations_per_second: f32(cpu),
            fork_join_seconds: fork_join(cpu),
        }
    }
}

fn read(cpu: &Cpu) -> f64 {
    let buffer = vec![1_u64; BEYOND_CACHE_BYTES / 8];
    let mut pieces = buffer.chunks(PIECE_BYTES / 8).cycle();
    let seconds = shortest(|| {
        let Some(piece) = pieces.next() else { return };
        let parts: [&[u64]; 8] =
            std::array::from_fn(|part| &piece[part * piece.len() / 8..(part + 1) * piece.len() / 8]);
        cpu.parallel(parts.len(), &|part| {
            black_box(parts[part].iter().fold(0_u64, |sum, value| sum.wrapping_add(*value)));
        });
    });
    PIECE_BYTES as f64 / seconds
}

/// Independent sums: more than the latency of the instruction.
const SUMS: usize = 12;
/// How often a chunk adds to each of them.
const ROUNDS: usize = 4_000;

struct Int8;

impl Kernel for Int8 {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, _chunk: usize) {
        let weights = s.load_bytes(black_box(&[3; 64]));
        let x = black_box(0x0101_0101);
        let mut sums = [s.splat_int(0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.dot_small(*sum, weights, x);
            }
        }
        black_box(sums.map(|sum| s.sum_int(sum)));
    }
}

fn int8(cpu: &Cpu) -> f64 {
    // 16 lanes of four products and their sums.
    peak(cpu, &Int8, 2 * 64)
}

struct Float;

impl Kernel for Float {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, _chunk: usize) {
        let (weight, x) = (s.splat(black_box(0.5)), s.splat(black_box(0.25)));
        let mut sums = [s.splat(0.0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.fma(weight, x, *sum);
            }
        }
        black_box(sums.map(|sum| s.sum(sum)));
    }
}

fn f32(cpu: &Cpu) -> f64 {
    // 16 lanes of a product and its sum.
    peak(cpu, &Float, 2 * 16)
}

/// Operations per second of chunks that add so many to each sum in each round.
fn peak(cpu: &Cpu, kernel: &impl Kernel, operations_per_sum: usize) -> f64 {
    const CHUNKS_PER_THREAD: usize = 4;
    let num_chunks = CHUNKS_PER_THREAD * cpu.num_threads();
    let seconds = shortest(|| cpu.launch(num_chunks, kernel));
    (operations_per_sum * SUMS * ROUNDS * num_chunks) as f64 / seconds
}

fn fork_join(cpu: &Cpu) -> f64 {
    let num_threads = cpu.num_threads();
    shortest(|| {
        let arrived = AtomicUsize::new(0);
        // Nobody leaves before all are there: otherwise one thread could do every chunk.
        cpu.parallel(num_threads, &|_| {
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) < num_threads {
                std::hint::spin_loop();
            }
        });
    })
}

/// The time that one run in twenty stays below.
fn shortest(mut run: impl FnMut()) -> f64 {
    let mut seconds = Vec::new();
    let start = Instant::now();
    while start.elapsed() < TIME_PER_LIMIT || seconds.len() < 20 {
        let since = Instant::now();
        run();
        seconds.push(since.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 20]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_some_machine() {
        let limits = MachineLimits::measure(&Cpu::new(2));
        let MachineLimits { read_bytes_per_second, fork_join_seconds, .. } = limits;
        assert!(read_bytes_per_second > 1e8 && read_bytes_per_second < 1e13, "{read_bytes_per_second}");
        for peak in [limits.int8_operations_per_second, limits.f32_operations_per_second] {
            assert!(peak > 1e8 && peak < 1e15, "{limits:?}");
        }
        assert!(fork_join_seconds > 1e-9 && fork_join_seconds < 0.1, "{fork_join_seconds}");
    }
}
