//! Grouped LoRA. Shrink: `A x` of every entry (a run on a row), lanes along the inputs. Expand: `B (A x)`, lanes along the outputs.
//!
//! ```text
//! shrink   one accumulator per (entry, rank), vectors of 16 inputs in order; then the fixed tree across lanes
//! expand   one accumulator per (entry, output), ranks in order; then out = fma(weight, delta, out), runs of a row in order
//! ```
//!
//! Tiles of entries by ranks (by outputs) only share the reading of A (of B): they do not change any entry's operations.

use crate::activations::Activations;
use crate::adapter::{LoraPair, SlabType};
use crate::cpu::Kernel;
use crate::cpu::simd::{LANES, Simd, Task};
use crate::ops::LoraRun;
use crate::ops::lora::{Entry, Group, ShrinkUnit};
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

/// First dispatch.
pub(crate) struct Shrink<'a> {
    pub(crate) x: &'a Activations,
    pub(crate) runs: &'a [LoraRun<'a>],
    pub(crate) entries: &'a [Entry],
    pub(crate) order: &'a [u32],
    pub(crate) units: &'a [ShrinkUnit],
    pub(crate) units_per_chunk: usize,
    pub(crate) shrunk: SharedMut<'a, f32>,
}

impl Kernel for Shrink<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let first = chunk * self.units_per_chunk;
        for unit in self.units.iter().skip(first).take(self.units_per_chunk) {
            let pair = self.runs[unit.group.run as usize].pair;
            match pair.slab_type() {
                SlabType::Bf16 => self.unit::<S, Brain>(s, unit, pair),
                SlabType::F16 => self.unit::<S, Ieee>(s, unit, pair),
            }
        }
    }
}

impl Shrink<'_> {
    #[inline(always)]
    fn unit<S: Simd, H: Halves>(&self, s: S, unit: &ShrinkUnit, pair: &LoraPair) {
        let members = members(self.order, unit.group);
        let (first, count) = (unit.first_rank as usize, unit.num_ranks as usize);
        let mut member = 0;
        // Four rows by four ranks when many rows share the pair; one row by eight ranks when the pair is read for it alone.
        while member + 4 <= members.len() {
            let rows: &[u32; 4] = members[member..].first_chunk().expect("four are left");
            let mut rank = 0;
            while rank + 4 <= count {
                self.tile::<S, H, 4, 4>(s, pair, rows, first + rank);
                rank += 4;
            }
            while rank < count {
                self.tile::<S, H, 4, 1>(s, pair, rows, first + rank);
                rank += 1;
            }
            member += 4;
        }
        for row in &members[member..] {
            let row = std::array::from_ref(row);
            let mut rank = 0;
            while rank + 8 <= count {
                self.tile::<S, H, 1, 8>(s, pair, row, first + rank);
                rank += 8;
            }
            while rank + 4 <= count {
                self.tile::<S, H, 1, 4>(s, pair, row, first + rank);
                rank += 4;
            }
            while rank < count {
                self.tile::<S, H, 1, 1>(s, pair, row, first + rank);
                rank += 1;
            }
        }
    }

    /// `R` entries by `K` ranks.
    #[inline(always)]
    fn tile<S: Simd, H: Halves, const R: usize, const K: usize>(
        &self,
        s: S,
        pair: &LoraPair,
        members: &[u32; R],
        first_rank: usize,
    ) {
        s.call(ShrinkTile::<H, R, K> { op: self, pair, members, first_rank, halves: std::marker::PhantomData });
    }
}

struct ShrinkTile<'a, H, const R: usize, const K: usize> {
    op: &'a Shrink<'a>,
    pair: &'a LoraPair,
    members: &'a [u32; R],
    first_rank: usize,
    halves: std::marker::PhantomData<H>,
}

impl<H: Halves, const R: usize, const K: usize> Task for ShrinkTile<'_, H, R, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let num_inputs = self.pair.in_features();
        let num_vectors = num_inputs.div_ceil(LANES);
        let a = self.pair.a_rows(self.first_rank, K);
        let mut x = [[].as_slice(); R];
        for row in 0..R {
            x[row] = self.op.x.row(self.op.entries[self.members[row] as usize].row as usize);
        }
        let mut acc = [[s.splat(0.0); K]; R];
        let num_whole = num_inputs / LANES;
        for vector in 0..num_whole {
            for rank in 0..K {
                let weights = H::load(s, &a[rank * num_vectors + vector]);
                for row in 0..R {
                    let x: &[f32; LANES] = x[row][vector * LANES..].first_chunk().expect("a whole vector is left");
                    acc[row][rank] = s.fma(weights, s.load(x), acc[row][rank]);
                }
            }
        }
        if num_whole < num_vectors {
            for rank in 0..K {
                let weights = H::load(s, &a[rank * num_vectors + num_whole]);
                for row in 0..R {
                    let x = s.load_part(&x[row][num_whole * LANES..]);
                    acc[row][rank] = s.fma(weights, x, acc[row][rank]);
                }
            }
        }
        for row in 0..R {
            let first = self.op.entries[self.members[row] as usize].shrunk + self.first_rank;
            // SAFETY: an entry's ranks of one unit belong to one chunk.
            let shrunk = unsafe { self.op.shrunk.part(first, K) };
            for rank in 0..K {
                shrunk[rank] = s.sum(acc[row][rank]);
            }
        }
    }
}

/// Second dispatch.
pub(crate) struct Expand<'a> {
    pub(crate) runs: &'a [LoraRun<'a>],
    pub(crate) entries: &'a [Entry],
    pub(crate) order: &'a [u32],
    /// In the order of depth.
    pub(crate) groups: &'a [Group],
    pub(crate) shrunk: &'a [f32],
    pub(crate) num_tiles: usize,
    pub(crate) tiles_per_chunk: usize,
    pub(crate) out: SharedMut<'a, f32>,
    pub(crate) out_features: usize,
    /// Rows of base outputs that later runs need.
    pub(crate) base: SharedMut<'a, f32>,
}

impl Kernel for Expand<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let first = chunk * self.tiles_per_chunk;
        let tiles = first..(first + self.tiles_per_chunk).min(self.num_tiles);
        for group in self.groups {
            let pair = self.runs[group.run as usize].pair;
            match pair.slab_type() {
                SlabType::Bf16 => self.group::<S, Brain>(s, *group, pair, tiles.clone()),
                SlabType::F16 => self.group::<S, Ieee>(s, *group, pair, tiles.clone()),
            }
        }
    }
}

impl Expand<'_> {
    #[inline(always)]
    fn group<S: Simd, H: Halves>(&self, s: S, group: Group, pair: &LoraPair, tiles: std::ops::Range<usize>) {
        let members = members(self.order, group);
        let mut member = 0;
        while member + 4 <= members.len() {
            let rows: &[u32; 4] = members[member..].first_chunk().expect("four are left");
            self.tiles::<S, H, 4>(s, pair, rows, tiles.clone());
            member += 4;
        }
        for row in &members[member..] {
            self.tiles::<S, H, 1>(s, pair, std::array::from_ref(row), tiles.clone());
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, H: Halves, const R: usize>(
        &self,
        s: S,
        pair: &LoraPair,
        members: &[u32; R],
        tiles: std::ops::Range<usize>,
    ) {
        s.call(ExpandTiles::<H, R> { op: self, pair, members, tiles, halves: std::marker::PhantomData });
    }
}

struct ExpandTiles<'a, H, const R: usize> {
    op: &'a Expand<'a>,
    pair: &'a LoraPair,
    members: &'a [u32; R],
    tiles: std::ops::Range<usize>,
    halves: std::marker::PhantomData<H>,
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
            b[at] = self.pair.b_tile(first_tile + at);
        }
        let mut entries = [self.op.entries[self.members[0] as usize]; R];
        let mut shrunk = [[].as_slice(); R];
        for row in 0..R {
            entries[row] = self.op.entries[self.members[row] as usize];
            shrunk[row] = &self.op.shrunk[entries[row].shrunk..][..rank];
        }
        let mut delta = [[s.splat(0.0); T]; R];
        for column in 0..rank {
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
        let count = LANES.min(self.op.out_features - first);
        // SAFETY: a tile of outputs belongs to one chunk, which works on one entry at a time.
        let out = unsafe { self.op.out.part(entry.row as usize * self.op.out_features + first, count) };
        let before = s.load_part(out);
        let mut base = before;
        if let Some(saved) = entry.base {
            // SAFETY: as above: the saved row's part of this tile belongs to this chunk.
            let saved = unsafe { self.op.base.part(saved as usize * self.op.out_features + first, count) };
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
