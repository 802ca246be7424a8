//! Shrink: `A x` of every entry (a run on a row), lanes along the inputs.
//!
//! ```text
//! four accumulators per (entry, rank), vector v of 16 inputs goes to number v % 4; then (0 + 1) + (2 + 3) and the fixed tree
//! across lanes
//! ```
//!
//! Tiles of entries by ranks only share the reading of A: they do not change any entry's operations.

use std::marker::PhantomData;

use super::float::{BF16, F16, FloatWeights};
use crate::cpu::activations::Activations;
use crate::cpu::backend::{Cpu, Kernel};
use crate::cpu::isa::simd::{LANES, Simd, Task};
use crate::cpu::pair::{LoraPair, LoraRun};
use crate::cpu::shared::SharedMut;
use crate::cpu::tiles::HalfLanes;
use crate::format::SlabType;
use crate::runs::{LoraPlan, ShrinkUnit};

/// Chunks per thread.
const CHUNKS_PER_THREAD: usize = 6;
/// Multiplications below which a dispatch is one chunk.
const WORK_WORTH_A_FORK: usize = 16 * 1024;

/// All shrinks of some modules that share an input.
pub(crate) struct Shrink<'a> {
    x: &'a Activations,
    modules: &'a [&'a [LoraRun<'a>]],
    plan: &'a LoraPlan,
    units_per_chunk: usize,
    shrunk: SharedMut<'a, f32>,
}

impl<'a> Shrink<'a> {
    pub(crate) fn new(
        cpu: &Cpu,
        x: &'a Activations,
        modules: &'a [&'a [LoraRun<'a>]],
        plan: &'a LoraPlan,
        shrunk: &'a mut [f32],
    ) -> Self {
        let units = &plan.shrink_units;
        let work = units.iter().map(|unit| (unit.num_ranks * unit.count) as usize).sum::<usize>() * x.cols();
        let num_chunks = if work < WORK_WORTH_A_FORK { 1 } else { cpu.num_threads() * CHUNKS_PER_THREAD };
        let units_per_chunk = units.len().div_ceil(num_chunks).max(1);
        Shrink { x, modules, plan, units_per_chunk, shrunk: SharedMut::new(shrunk) }
    }

    pub(crate) fn num_chunks(&self) -> usize {
        self.plan.shrink_units.len().div_ceil(self.units_per_chunk)
    }
}

impl Kernel for Shrink<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let first = chunk * self.units_per_chunk;
        let units = &self.plan.shrink_units[first..];
        for (at, unit) in units.iter().take(self.units_per_chunk).enumerate() {
            let next = units.get(at + 1).unwrap_or(unit);
            let next = self.pair(next).a_rows(next.first_rank as usize, 1).as_ptr();
            match self.pair(unit).slab_type() {
                SlabType::Bf16 => self.unit::<S, BF16>(s, unit, next),
                SlabType::F16 => self.unit::<S, F16>(s, unit, next),
            }
        }
    }
}

impl<'a> Shrink<'a> {
    #[inline(always)]
    fn pair(&self, unit: &ShrinkUnit) -> &'a LoraPair {
        self.modules[unit.module as usize][unit.run as usize].pair
    }

    /// `next` is what the unit after this one reads.
    #[inline(always)]
    fn unit<S: Simd, W: FloatWeights<Stored = HalfLanes>>(&self, s: S, unit: &ShrinkUnit, next: *const HalfLanes) {
        let (fours, rest) = self.plan.order[unit.first as usize..][..unit.count as usize].as_chunks::<4>();
        for members in fours {
            s.call(ShrinkRanks::<W, 4> { op: self, unit, members, next, format: PhantomData });
        }
        for one in rest {
            let members = std::array::from_ref(one);
            s.call(ShrinkRanks::<W, 1> { op: self, unit, members, next, format: PhantomData });
        }
    }
}

/// Some ranks of `R` entries, one after another: A is read as one stream.
struct ShrinkRanks<'a, W, const R: usize> {
    op: &'a Shrink<'a>,
    unit: &'a ShrinkUnit,
    members: &'a [u32; R],
    next: *const HalfLanes,
    format: PhantomData<W>,
}

impl<W: FloatWeights<Stored = HalfLanes>, const R: usize> Task for ShrinkRanks<'_, W, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pair = self.op.pair(self.unit);
        let entries = self.members.map(|member| self.op.plan.entries[member as usize]);
        let x = entries.map(|entry| &self.op.x.row(entry.row as usize)[..pair.in_features()]);
        let mut next = self.next;
        for rank in self.unit.first_rank as usize..(self.unit.first_rank + self.unit.num_ranks) as usize {
            let a = pair.a_rows(rank, 1);
            let sums = shrink_rank::<S, W, R>(s, a, &x, next);
            next = next.wrapping_add(a.len());
            for row in 0..R {
                // SAFETY: a rank of an entry belongs to one chunk.
                let shrunk = unsafe { self.op.shrunk.part(entries[row].shrunk + rank, 1) };
                shrunk[0] = sums[row];
            }
        }
    }
}

/// A row of A by `R` rows of activations. As much is asked for from `next` on: evenly spaced requests along one stream
/// are what the hardware carries on with; bursts of them are not faster than waiting.
#[inline(always)]
fn shrink_rank<S: Simd, W: FloatWeights<Stored = HalfLanes>, const R: usize>(
    s: S,
    a: &[HalfLanes],
    x: &[&[f32]; R],
    next: *const HalfLanes,
) -> [f32; R] {
    let mut acc = [[s.splat(0.0); 4]; R];
    let (fours, _) = a[..x[0].len() / LANES].as_chunks::<4>();
    for (four, weights) in fours.iter().enumerate() {
        s.prefetch(next.wrapping_add(4 * four).cast());
        s.prefetch(next.wrapping_add(4 * four + 2).cast());
        for part in 0..4 {
            let weights = W::load(s, &weights[part]);
            let first = (4 * four + part) * LANES;
            for row in 0..R {
                let x: &[f32; LANES] = x[row][first..].first_chunk().expect("a whole vector is left");
                acc[row][part] = s.fma(weights, s.load(x), acc[row][part]);
            }
        }
    }
    for (vector, weights) in a.iter().enumerate().skip(4 * fours.len()) {
        let weights = W::load(s, weights);
        for row in 0..R {
            let x = s.load_part(&x[row][vector * LANES..]);
            let part = &mut acc[row][vector % 4];
            *part = s.fma(weights, x, *part);
        }
    }
    let mut sums = [0.0; R];
    for row in 0..R {
        sums[row] = s.sum(s.add(s.add(acc[row][0], acc[row][1]), s.add(acc[row][2], acc[row][3])));
    }
    sums
}
