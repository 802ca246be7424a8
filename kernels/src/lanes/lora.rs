//! Grouped LoRA. Shrink: `A x` of every entry (a run on a row), lanes along the inputs. Expand: `B (A x)`, lanes along the outputs.
//!
//! ```text
//! shrink   four accumulators per (entry, rank), vector v of 16 inputs goes to number v % 4; then (0 + 1) + (2 + 3) and the
//!          fixed tree across lanes
//! expand   one accumulator per (entry, output), ranks in order; then out = fma(weight, delta, out), runs of a row in order
//! ```
//!
//! Tiles of entries by ranks (by outputs) only share the reading of A (of B): they do not change any entry's operations.

use std::marker::PhantomData;
use std::ops::Range;

use crate::activations::Activations;
use crate::adapter::{LoraPair, SlabType};
use crate::cpu::simd::{LANES, Simd, Task};
use crate::cpu::{Cpu, Kernel};
use crate::ops::LoraRun;
use crate::ops::lora::{Entry, ExpandUnit, Group, LoraPlan, ShrinkUnit, per_chunk};
use crate::shared::SharedMut;

/// How half floats of a pair become lanes.
trait Halves {
    fn load<S: Simd>(s: S, from: &[u16; LANES]) -> S::F;
}

struct Brain;
struct Ieee;

impl Halves for Brain {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[u16; LANES]) -> S::F {
        s.load_bf16(from)
    }
}

impl Halves for Ieee {
    #[inline(always)]
    fn load<S: Simd>(s: S, from: &[u16; LANES]) -> S::F {
        s.load_f16(from)
    }
}

/// How far ahead of its use a pair is asked for: 4 KiB.
const PREFETCH_VECTORS: usize = 128;

/// Asks for the four vectors that will be read after some more. Evenly spaced requests along one stream are what the
/// hardware carries on with; bursts of them are not faster than waiting.
#[inline(always)]
fn prefetch_four<S: Simd>(s: S, at: *const [u16; LANES]) {
    s.prefetch(at.wrapping_add(PREFETCH_VECTORS).cast());
    s.prefetch(at.wrapping_add(PREFETCH_VECTORS + 2).cast());
}

/// One matrix's runs and where its outputs are.
#[derive(Clone, Copy)]
pub(crate) struct Module<'a> {
    pub(crate) runs: &'a [LoraRun<'a>],
    pub(crate) out: SharedMut<'a, f32>,
    pub(crate) out_features: usize,
}

impl Module<'_> {
    pub(crate) const EMPTY: Module<'static> = Module { runs: &[], out: SharedMut::EMPTY, out_features: 0 };

    pub(crate) fn is_idle(&self) -> bool {
        self.runs.iter().all(|run| run.num_rows == 0)
    }
}

/// First dispatch; it may run beside the base product, which it does not touch.
pub(crate) struct Shrink<'a> {
    x: &'a Activations,
    modules: &'a [Module<'a>],
    plan: &'a LoraPlan,
    units_per_chunk: usize,
    shrunk: SharedMut<'a, f32>,
}

impl<'a> Shrink<'a> {
    pub(crate) fn new(
        cpu: &Cpu,
        x: &'a Activations,
        modules: &'a [Module<'a>],
        plan: &'a LoraPlan,
        shrunk: &'a mut [f32],
    ) -> Self {
        let rows_by_ranks = |unit: &ShrinkUnit| (unit.num_ranks * unit.group.count) as usize;
        let work = plan.shrink_units.iter().map(rows_by_ranks).sum::<usize>() * x.cols();
        let units_per_chunk = per_chunk(cpu, plan.shrink_units.len(), work);
        Shrink { x, modules, plan, units_per_chunk, shrunk: SharedMut::new(shrunk) }
    }

    pub(crate) fn num_chunks(&self) -> usize {
        self.plan.shrink_units.len().div_ceil(self.units_per_chunk)
    }
}

impl Kernel for Shrink<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let units = &self.plan.shrink_units;
        let first = chunk * self.units_per_chunk;
        for unit in &units[first..(first + self.units_per_chunk).min(units.len())] {
            match unit.group.pair(self.modules).slab_type() {
                SlabType::Bf16 => self.unit::<S, Brain>(s, unit),
                SlabType::F16 => self.unit::<S, Ieee>(s, unit),
            }
        }
    }
}

impl Shrink<'_> {
    #[inline(always)]
    fn unit<S: Simd, H: Halves>(&self, s: S, unit: &ShrinkUnit) {
        let (fours, rest) = members(&self.plan.order, unit.group).as_chunks::<4>();
        for members in fours {
            s.call(ShrinkRanks::<H, 4> { op: self, unit, members, halves: PhantomData });
        }
        for one in rest {
            let members = std::array::from_ref(one);
            s.call(ShrinkRanks::<H, 1> { op: self, unit, members, halves: PhantomData });
        }
    }
}

/// Some ranks of `R` entries, one after another: A is read as one stream.
struct ShrinkRanks<'a, H, const R: usize> {
    op: &'a Shrink<'a>,
    unit: &'a ShrinkUnit,
    members: &'a [u32; R],
    halves: PhantomData<H>,
}

impl<H: Halves, const R: usize> Task for ShrinkRanks<'_, H, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pair = self.unit.group.pair(self.op.modules);
        let num_inputs = pair.in_features();
        let mut x = [[].as_slice(); R];
        for row in 0..R {
            let values = self.op.x.row(self.op.plan.entries[self.members[row] as usize].row as usize);
            x[row] = &values[..num_inputs];
        }
        for rank in self.unit.first_rank as usize..(self.unit.first_rank + self.unit.num_ranks) as usize {
            let sums = shrink_rank::<S, H, R>(s, pair.a_rows(rank, 1), &x);
            for row in 0..R {
                let at = self.op.plan.entries[self.members[row] as usize].shrunk + rank;
                // SAFETY: a rank of an entry belongs to one chunk.
                let shrunk = unsafe { self.op.shrunk.part(at, 1) };
                shrunk[0] = sums[row];
            }
        }
    }
}

/// A row of A by `R` rows of activations.
#[inline(always)]
fn shrink_rank<S: Simd, H: Halves, const R: usize>(s: S, a: &[[u16; LANES]], x: &[&[f32]; R]) -> [f32; R] {
    let mut acc = [[s.splat(0.0); 4]; R];
    let (fours, _) = a[..x[0].len() / LANES].as_chunks::<4>();
    for (four, weights) in fours.iter().enumerate() {
        prefetch_four(s, weights.as_ptr());
        for part in 0..4 {
            let weights = H::load(s, &weights[part]);
            let first = (4 * four + part) * LANES;
            for row in 0..R {
                let x: &[f32; LANES] = x[row][first..].first_chunk().expect("a whole vector is left");
                acc[row][part] = s.fma(weights, s.load(x), acc[row][part]);
            }
        }
    }
    for (vector, weights) in a.iter().enumerate().skip(4 * fours.len()) {
        let weights = H::load(s, weights);
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

/// Second dispatch, one for each depth: units of one depth never share outputs.
pub(crate) struct Expand<'a> {
    pub(crate) modules: &'a [Module<'a>],
    pub(crate) plan: &'a LoraPlan,
    /// Of one depth.
    pub(crate) units: &'a [ExpandUnit],
    pub(crate) units_per_chunk: usize,
    pub(crate) shrunk: &'a [f32],
    /// Rows of base outputs that later runs need.
    pub(crate) base: SharedMut<'a, f32>,
}

impl Kernel for Expand<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let first = chunk * self.units_per_chunk;
        for unit in &self.units[first..(first + self.units_per_chunk).min(self.units.len())] {
            match unit.group.pair(self.modules).slab_type() {
                SlabType::Bf16 => self.unit::<S, Brain>(s, unit),
                SlabType::F16 => self.unit::<S, Ieee>(s, unit),
            }
        }
    }
}

impl Expand<'_> {
    #[inline(always)]
    fn unit<S: Simd, H: Halves>(&self, s: S, unit: &ExpandUnit) {
        let (pair, module) = (unit.group.pair(self.modules), &self.modules[unit.group.module as usize]);
        let tiles = unit.first_tile as usize..(unit.first_tile + unit.num_tiles) as usize;
        let (fours, rest) = members(&self.plan.order, unit.group).as_chunks::<4>();
        for members in fours {
            let tiles = tiles.clone();
            s.call(ExpandTiles::<H, 4> { op: self, module, pair, members, tiles, halves: PhantomData });
        }
        for one in rest {
            let (members, tiles) = (std::array::from_ref(one), tiles.clone());
            s.call(ExpandTiles::<H, 1> { op: self, module, pair, members, tiles, halves: PhantomData });
        }
    }
}

struct ExpandTiles<'a, H, const R: usize> {
    op: &'a Expand<'a>,
    module: &'a Module<'a>,
    pair: &'a LoraPair,
    members: &'a [u32; R],
    tiles: Range<usize>,
    halves: PhantomData<H>,
}

impl<H: Halves, const R: usize> Task for ExpandTiles<'_, H, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut tile = self.tiles.start;
        while tile + 4 <= self.tiles.end {
            self.outputs::<S, 4>(s, tile);
            tile += 4;
        }
        while tile < self.tiles.end {
            self.outputs::<S, 1>(s, tile);
            tile += 1;
        }
    }
}

impl<H: Halves, const R: usize> ExpandTiles<'_, H, R> {
    /// `R` entries by `T` tiles of outputs.
    #[inline(always)]
    fn outputs<S: Simd, const T: usize>(&self, s: S, first_tile: usize) {
        let rank = self.pair.rank();
        let mut b = [[].as_slice(); T];
        for at in 0..T {
            b[at] = self.pair.b_tiles(first_tile + at, 1);
        }
        let mut entries = [self.op.plan.entries[self.members[0] as usize]; R];
        let mut shrunk = [[].as_slice(); R];
        for row in 0..R {
            entries[row] = self.op.plan.entries[self.members[row] as usize];
            shrunk[row] = &self.op.shrunk[entries[row].shrunk..][..rank];
        }
        let mut delta = [[s.splat(0.0); T]; R];
        for column in 0..rank {
            if T == 4 {
                prefetch_four(s, b[0].as_ptr().wrapping_add(4 * column));
            }
            for at in 0..T {
                let weights = H::load(s, &b[at][column]);
                for row in 0..R {
                    delta[row][at] = s.fma(s.splat(shrunk[row][column]), weights, delta[row][at]);
                }
            }
        }
        for row in 0..R {
            for at in 0..T {
                self.add(s, &entries[row], first_tile + at, delta[row][at]);
            }
        }
    }

    /// Adds an entry's contribution to 16 outputs of its row.
    #[inline(always)]
    fn add<S: Simd>(&self, s: S, entry: &Entry, tile: usize, delta: S::F) {
        let first = tile * LANES;
        let out_features = self.module.out_features;
        let count = LANES.min(out_features - first);
        // SAFETY: within a dispatch a row is in one group, and a tile of it in one chunk, which works on one entry at a time.
        let out = unsafe { self.module.out.part(entry.row as usize * out_features + first, count) };
        let before = s.load_part(out);
        let mut base = before;
        if let Some(saved) = entry.base {
            // SAFETY: as above: the saved row's part of this tile belongs to this chunk.
            let saved = unsafe { self.op.base.part(saved + first, count) };
            if entry.is_first() {
                s.store_part(before, saved);
            } else {
                base = s.load_part(saved);
            }
        }
        let delta = match self.pair.gain() {
            Some(gain) => s.sub(s.mul(s.load_part(&gain[first..][..count]), s.add(base, delta)), base),
            None => delta,
        };
        s.store_part(s.fma(s.splat(entry.weight), delta, before), out);
    }
}

/// Entry numbers of a group.
#[inline(always)]
fn members(order: &[u32], group: Group) -> &[u32] {
    &order[group.first as usize..][..group.count as usize]
}
