//! Expand: `B (A x)` added to a product's sums before they are written, lanes along the outputs.
//!
//! ```text
//! one accumulator per (entry, output), ranks in order; then sum = fma(weight, delta, sum), runs of a row in order
//! ```
//!
//! Rows only share the reading of B: they do not change any row's operations.

use super::float::{BF16, F16, FloatWeights};
use crate::cpu::isa::simd::{LANES, Simd, Task};
use crate::cpu::pair::{LoraPair, LoraRun};
use crate::cpu::tiles::HalfLanes;
use crate::format::SlabType;
use crate::runs::LoraEntry;

/// What the runs of a module add to its product.
#[derive(Clone, Copy)]
pub(crate) struct Expand<'a> {
    pub(crate) runs: &'a [LoraRun<'a>],
    /// The entries of row `r` are `row_starts[r]..row_starts[r + 1]`.
    pub(crate) row_starts: &'a [u32],
    pub(crate) entries: &'a [LoraEntry],
    /// `A x` of every entry.
    pub(crate) shrunk: &'a [f32],
}

impl<'a> Expand<'a> {
    /// Whether any of `count` rows has an entry.
    #[inline(always)]
    pub(crate) fn acts_on(&self, first_row: usize, count: usize) -> bool {
        self.row_starts[first_row] < self.row_starts[first_row + count]
    }

    #[inline(always)]
    fn of_row(&self, row: usize) -> &'a [LoraEntry] {
        &self.entries[self.row_starts[row] as usize..self.row_starts[row + 1] as usize]
    }

    #[inline(always)]
    fn pair(&self, entry: &LoraEntry) -> &'a LoraPair {
        self.runs[entry.run as usize].pair
    }

    #[inline(always)]
    fn shrunk(&self, entry: &LoraEntry) -> &'a [f32] {
        &self.shrunk[entry.shrunk..][..self.pair(entry).rank()]
    }

    /// The pair of all `R` rows, if each has that one alone.
    #[inline(always)]
    fn shared_pair<const R: usize>(&self, first_row: usize) -> Option<&'a LoraPair> {
        let [first] = self.of_row(first_row) else { return None };
        let pair = self.pair(first);
        let has_it = |row| matches!(self.of_row(row), [one] if std::ptr::eq(self.pair(one), pair));
        (first_row + 1..first_row + R).all(has_it).then_some(pair)
    }

    /// B of the first entry of each row, for a tile.
    #[inline(always)]
    pub(crate) fn ahead<const R: usize>(&self, first_row: usize, tile: usize, out_features: usize) -> Ahead<R> {
        let mut ahead = Ahead::NOTHING;
        if tile * LANES >= out_features {
            return ahead;
        }
        let mut before = None;
        for row in first_row..first_row + R {
            let Some(pair) = self.of_row(row).first().map(|entry| self.pair(entry)) else { continue };
            if before.is_some_and(|before| std::ptr::eq(before, pair)) {
                continue;
            }
            before = Some(pair);
            ahead.streams[ahead.num_streams] = pair.b_tiles(tile, 1).as_ptr();
            ahead.num_streams += 1;
            ahead.lines_per_stream = ahead.lines_per_stream.max(pair.rank().div_ceil(2).min(MOST_LINES_AHEAD));
        }
        ahead
    }
}

/// Lines per row that are asked for ahead: what is longer is a stream that the hardware follows.
const MOST_LINES_AHEAD: usize = 16;

/// Lines of memory to ask for, some at a time: the first-level cache takes a limited number of requests at once.
pub(crate) struct Ahead<const R: usize> {
    streams: [*const HalfLanes; R],
    num_streams: usize,
    lines_per_stream: usize,
    /// What comes next.
    stream: usize,
    line: usize,
}

impl<const R: usize> Ahead<R> {
    pub(crate) const NOTHING: Self =
        Ahead { streams: [std::ptr::null(); R], num_streams: 0, lines_per_stream: 0, stream: 0, line: 0 };

    pub(crate) fn num_lines(&self) -> usize {
        self.num_streams * self.lines_per_stream
    }

    /// Asks for the next `count` lines, if there are any.
    #[inline(always)]
    pub(crate) fn ask<S: Simd>(&mut self, s: S, count: usize) {
        for _ in 0..count {
            if self.stream == self.num_streams {
                return;
            }
            s.prefetch(self.streams[self.stream].wrapping_add(2 * self.line).cast());
            self.line += 1;
            if self.line == self.lines_per_stream {
                (self.stream, self.line) = (self.stream + 1, 0);
            }
        }
    }
}

/// Adds what adapters give to a tile of `R` rows of which at least one has an entry.
pub(crate) struct ExpandPanel<'a, 'b, const R: usize> {
    pub(crate) expand: &'b Expand<'a>,
    pub(crate) out_features: usize,
    pub(crate) first_row: usize,
    pub(crate) tile: usize,
    /// Products in, sums out.
    pub(crate) sums: &'b mut [[f32; LANES]; R],
}

impl<const R: usize> Task for ExpandPanel<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if R > 1
            && let Some(pair) = self.expand.shared_pair::<R>(self.first_row)
        {
            let entries: [&LoraEntry; R] = std::array::from_fn(|row| &self.expand.of_row(self.first_row + row)[0]);
            let deltas = self.deltas(s, pair, entries.map(|entry| self.expand.shrunk(entry)));
            for row in 0..R {
                let product = s.load(&self.sums[row]);
                let sum = self.add(s, pair, entries[row].weight, product, product, deltas[row]);
                s.store(sum, &mut self.sums[row]);
            }
            return;
        }
        for row in 0..R {
            let product = s.load(&self.sums[row]);
            let mut sum = product;
            for entry in self.expand.of_row(self.first_row + row) {
                let pair = self.expand.pair(entry);
                let [delta] = self.deltas(s, pair, [self.expand.shrunk(entry)]);
                sum = self.add(s, pair, entry.weight, product, sum, delta);
            }
            s.store(sum, &mut self.sums[row]);
        }
    }
}

impl<const R: usize> ExpandPanel<'_, '_, R> {
    /// `B (A x)` of some rows.
    #[inline(always)]
    fn deltas<S: Simd, const N: usize>(&self, s: S, pair: &LoraPair, shrunk: [&[f32]; N]) -> [S::F; N] {
        let b = pair.b_tiles(self.tile, 1);
        match pair.slab_type() {
            SlabType::Bf16 => deltas_of::<S, BF16, N>(s, b, shrunk),
            SlabType::F16 => deltas_of::<S, F16, N>(s, b, shrunk),
        }
    }

    /// The sum with one contribution more; a gain acts on the product, whatever else was added to it.
    #[inline(always)]
    fn add<S: Simd>(&self, s: S, pair: &LoraPair, weight: f32, product: S::F, sum: S::F, delta: S::F) -> S::F {
        let first = self.tile * LANES;
        let count = LANES.min(self.out_features - first);
        let delta = match pair.gain() {
            Some(gain) => s.sub(s.mul(s.load_part(&gain[first..][..count]), s.add(product, delta)), product),
            None => delta,
        };
        s.fma(s.splat(weight), delta, sum)
    }
}

#[inline(always)]
fn deltas_of<S: Simd, W: FloatWeights<Stored = HalfLanes>, const N: usize>(
    s: S,
    b: &[HalfLanes],
    shrunk: [&[f32]; N],
) -> [S::F; N] {
    let shrunk = shrunk.map(|shrunk| &shrunk[..b.len()]);
    let mut deltas = [s.splat(0.0); N];
    for column in 0..b.len() {
        let weights = W::load(s, &b[column]);
        for row in 0..N {
            deltas[row] = s.fma(s.splat(shrunk[row][column]), weights, deltas[row]);
        }
    }
    deltas
}
