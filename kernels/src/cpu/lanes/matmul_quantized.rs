//! Quantised matmul: activations in two planes of int8 by tiles of 16 outputs.
//!
//! Per tile, row and block of 32 inputs: an exact integer dot product per output, then a fixed sequence of float
//! operations on the accumulator of (row, output). The sequence does not depend on how many rows are worked on at once,
//! nor on the instruction set:
//!
//! ```text
//! acc = fma(scale_w * scale_x, dot, acc)              one scale
//! acc = fma(min_w, scale_x * sum_x, acc)              then, with a minimum
//! ```
//!
//! Weights of a block are unpacked once for a panel of rows.

use std::marker::PhantomData;

use super::output::Output;
use crate::cpu::activations::{Activations, BlockMeta, QuantBlock, combine};
use crate::cpu::isa::simd::{Simd, Task};
use crate::cpu::tiles::{FactorsK16, FactorsK32, Line};
use crate::cpu::tiles::{HalfLanes, Quantized};

/// How far ahead of its use a line is asked for by the panel that reads a tile first.
const PREFETCH_LINES: usize = 64;

/// How lines of a block become eight vectors of four weights per lane.
pub(crate) trait Weights {
    const LINES: usize;
    fn load<S: Simd>(s: S, lines: &[Line]) -> [S::B; 8];
}

/// Two weights per byte.
pub(crate) struct Nibbles;
/// One weight per byte.
pub(crate) struct Bytes;

impl Weights for Nibbles {
    const LINES: usize = 4;
    #[inline(always)]
    fn load<S: Simd>(s: S, lines: &[Line]) -> [S::B; 8] {
        let lines: &[Line; 4] = lines.first_chunk().expect("four lines per block");
        let mut weights = [s.load_bytes(&lines[0].0); 8];
        for at in 0..4 {
            let line = s.load_bytes(&lines[at].0);
            weights[at] = s.low_nibbles(line);
            weights[4 + at] = s.high_nibbles(line);
        }
        weights
    }
}

impl Weights for Bytes {
    const LINES: usize = 8;
    #[inline(always)]
    fn load<S: Simd>(s: S, lines: &[Line]) -> [S::B; 8] {
        let lines: &[Line; 8] = lines.first_chunk().expect("eight lines per block");
        let mut weights = [s.load_bytes(&lines[0].0); 8];
        for at in 1..8 {
            weights[at] = s.load_bytes(&lines[at].0);
        }
        weights
    }
}

/// The integer dot products of one block: of all 32 inputs and nothing, or of each half for [`SignedHalves`].
///
/// The coarse plane comes first; its sum in fine steps is where the fine plane's chain starts.
pub(crate) trait Dot {
    fn dots<S: Simd>(s: S, weights: &[S::B; 8], x: &QuantBlock, meta: &BlockMeta) -> [S::I; 2];
}

/// Unsigned weights as they are.
pub(crate) struct Plain;
/// Unsigned weights around 8.
pub(crate) struct Around8;
/// Signed weights, stored + 128.
pub(crate) struct Signed;
/// The same, where each half has its own scale.
pub(crate) struct SignedHalves;

/// The dot product of a range of words in both planes of `x`. The planes take turns: each is a chain in which every
/// instruction waits for the one before, so that two chains keep the unit twice as busy as one after the other.
macro_rules! two_planes {
    ($s:ident, $dot:ident, $weights:ident, $x:ident, $range:expr, $start:expr) => {{
        let mut coarse = $s.splat_int(0);
        let mut fine = $start;
        for at in $range {
            coarse = $s.$dot(coarse, $weights[at], $x.coarse[at]);
            fine = $s.$dot(fine, $weights[at], $x.fine[at]);
        }
        combine($s, coarse, fine)
    }};
}

impl Dot for Plain {
    #[inline(always)]
    fn dots<S: Simd>(s: S, weights: &[S::B; 8], x: &QuantBlock, _meta: &BlockMeta) -> [S::I; 2] {
        let zero = s.splat_int(0);
        [two_planes!(s, dot_small, weights, x, 0..8, zero), zero]
    }
}

impl Dot for Around8 {
    #[inline(always)]
    fn dots<S: Simd>(s: S, weights: &[S::B; 8], x: &QuantBlock, meta: &BlockMeta) -> [S::I; 2] {
        [two_planes!(s, dot_small, weights, x, 0..8, s.splat_int(meta.around_8)), s.splat_int(0)]
    }
}

impl Dot for Signed {
    #[inline(always)]
    fn dots<S: Simd>(s: S, weights: &[S::B; 8], x: &QuantBlock, meta: &BlockMeta) -> [S::I; 2] {
        [two_planes!(s, dot_signed, weights, x, 0..8, s.start_signed(meta.around_128)), s.splat_int(0)]
    }
}

impl Dot for SignedHalves {
    #[inline(always)]
    fn dots<S: Simd>(s: S, weights: &[S::B; 8], x: &QuantBlock, meta: &BlockMeta) -> [S::I; 2] {
        let [low, high] = meta.halves_around_128;
        [
            two_planes!(s, dot_signed, weights, x, 0..4, s.start_signed(low)),
            two_planes!(s, dot_signed, weights, x, 4..8, s.start_signed(high)),
        ]
    }
}

/// Scales and minima of a block, and the float operations with them.
pub(crate) trait Factors {
    /// As stored.
    type Stored: Copy + Sync;
    /// 32-blocks per stored item.
    const BLOCKS: usize;
    /// As used, in lanes: two values that mean what `accumulate` says.
    fn load<S: Simd>(s: S, stored: &Self::Stored, block: usize) -> [S::F; 2];
    fn accumulate<S: Simd>(s: S, acc: S::F, factors: [S::F; 2], dots: [S::I; 2], meta: &BlockMeta) -> S::F;
}

/// One scale.
pub(crate) struct Scale;
/// Scale and minimum.
pub(crate) struct ScaleMin;
/// Scale and minimum, each a product of two.
pub(crate) struct K32;
/// A scale for each 16 inputs, a product of two.
pub(crate) struct K16;

impl Factors for Scale {
    type Stored = HalfLanes;
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn load<S: Simd>(s: S, stored: &HalfLanes, _block: usize) -> [S::F; 2] {
        [s.load_f16(stored); 2]
    }
    #[inline(always)]
    fn accumulate<S: Simd>(s: S, acc: S::F, factors: [S::F; 2], dots: [S::I; 2], meta: &BlockMeta) -> S::F {
        let dot = s.int_to_float(dots[0]);
        s.fma(s.mul(factors[0], s.splat(meta.scale)), dot, acc)
    }
}

#[inline(always)]
fn accumulate_scale_min<S: Simd>(s: S, acc: S::F, factors: [S::F; 2], dots: [S::I; 2], meta: &BlockMeta) -> S::F {
    let dot = s.int_to_float(dots[0]);
    let acc = s.fma(s.mul(factors[0], s.splat(meta.scale)), dot, acc);
    s.fma(factors[1], s.splat(meta.scaled_sum), acc)
}

impl Factors for ScaleMin {
    type Stored = [HalfLanes; 2];
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn load<S: Simd>(s: S, stored: &[HalfLanes; 2], _block: usize) -> [S::F; 2] {
        [s.load_f16(&stored[0]), s.load_f16(&stored[1])]
    }
    #[inline(always)]
    fn accumulate<S: Simd>(s: S, acc: S::F, factors: [S::F; 2], dots: [S::I; 2], meta: &BlockMeta) -> S::F {
        accumulate_scale_min(s, acc, factors, dots, meta)
    }
}

impl Factors for K32 {
    type Stored = FactorsK32;
    const BLOCKS: usize = 8;

    #[inline(always)]
    fn load<S: Simd>(s: S, stored: &FactorsK32, block: usize) -> [S::F; 2] {
        let at = block % 8;
        let scale = s.mul(s.load_f16(&stored.scale), s.load_u8(&stored.scales[at]));
        let min = s.mul(s.load_f16(&stored.neg_min), s.load_u8(&stored.mins[at]));
        [scale, min]
    }
    #[inline(always)]
    fn accumulate<S: Simd>(s: S, acc: S::F, factors: [S::F; 2], dots: [S::I; 2], meta: &BlockMeta) -> S::F {
        accumulate_scale_min(s, acc, factors, dots, meta)
    }
}

impl Factors for K16 {
    type Stored = FactorsK16;
    const BLOCKS: usize = 8;

    #[inline(always)]
    fn load<S: Simd>(s: S, stored: &FactorsK16, block: usize) -> [S::F; 2] {
        let at = 2 * (block % 8);
        let scale = s.load_f16(&stored.scale);
        [s.mul(scale, s.load_i8(&stored.groups[at])), s.mul(scale, s.load_i8(&stored.groups[at + 1]))]
    }
    #[inline(always)]
    fn accumulate<S: Simd>(s: S, acc: S::F, factors: [S::F; 2], dots: [S::I; 2], meta: &BlockMeta) -> S::F {
        let scale = s.splat(meta.scale);
        let acc = s.fma(s.mul(factors[0], scale), s.int_to_float(dots[0]), acc);
        s.fma(s.mul(factors[1], scale), s.int_to_float(dots[1]), acc)
    }
}

/// A run of tiles for all rows: one task per chunk.
pub(crate) struct QuantizedTiles<'a, W, D, F: Factors> {
    pub(crate) weights: &'a Quantized<F::Stored>,
    pub(crate) first_tile: usize,
    pub(crate) num_tiles: usize,
    pub(crate) x: &'a Activations,
    pub(crate) first_row: usize,
    pub(crate) num_rows: usize,
    /// Whether another thread may be writing the rows after these.
    pub(crate) others_follow: bool,
    pub(crate) out: Output<'a>,
    pub(crate) format: PhantomData<(W, D, F)>,
}

impl<W: Weights, D: Dot, F: Factors> Task for QuantizedTiles<'_, W, D, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for tile in self.first_tile..self.first_tile + self.num_tiles {
            let (mut row, end) = (self.first_row, self.first_row + self.num_rows);
            if S::PANEL_ROWS >= 8 {
                while row + 8 <= end {
                    self.panel::<S, 8>(s, tile, row);
                    row += 8;
                }
            }
            while row + 4 <= end {
                self.panel::<S, 4>(s, tile, row);
                row += 4;
            }
            if row + 2 <= end {
                self.panel::<S, 2>(s, tile, row);
                row += 2;
            }
            if row < end {
                self.panel::<S, 1>(s, tile, row);
            }
        }
    }
}

impl<W: Weights, D: Dot, F: Factors> QuantizedTiles<'_, W, D, F> {
    /// One tile by `R` rows.
    #[inline(always)]
    fn panel<S: Simd, const R: usize>(&self, s: S, tile: usize, first_row: usize) {
        let num_blocks = self.x.num_blocks();
        let num_lines = num_blocks * W::LINES;
        let num_factors = num_blocks / F::BLOCKS;
        let lines = &self.weights.lines[tile * num_lines..][..num_lines];
        let factors = &self.weights.factors[tile * num_factors..][..num_factors];
        // Bounds of the last row cover the others; inside the loop rows are reached by pointer.
        assert!(first_row + R <= self.x.max_rows());
        let quants = self.x.row_quants(first_row).as_ptr();
        let metas = self.x.row_metas(first_row).as_ptr();

        // The first panel of a tile finds it in memory, those after it in the cache.
        let streams = first_row == self.first_row;
        let mut ahead = self.out.ahead::<R>(first_row, tile + 1);
        let lines_per_block = ahead.num_lines().div_ceil(num_blocks);
        let mut acc = [s.splat(0.0); R];
        for block in 0..num_blocks {
            let block_lines = &lines[block * W::LINES..][..W::LINES];
            if streams {
                for line in block_lines {
                    s.prefetch(std::ptr::from_ref(line).wrapping_add(PREFETCH_LINES).cast());
                }
            }
            ahead.ask(s, lines_per_block);
            let weights = W::load(s, block_lines);
            let factors = F::load(s, &factors[block / F::BLOCKS], block);
            // Written out, because the compiler leaves a loop of this length rolled and then keeps `acc` in memory.
            macro_rules! rows {
                ($($row:literal)*) => {$(
                    if $row < R {
                        let at = $row * num_blocks + block;
                        // SAFETY: rows first_row .. first_row + R are within the buffer and follow each other,
                        // num_blocks apart.
                        let (x, meta) = unsafe { (&*quants.add(at), &*metas.add(at)) };
                        let dots = D::dots(s, &weights, x, meta);
                        acc[$row] = F::accumulate(s, acc[$row], factors, dots, meta);
                    }
                )*};
            }
            rows!(0 1 2 3 4 5 6 7);
        }
        let others_follow = self.others_follow && first_row + R == self.first_row + self.num_rows;
        self.out.write(s, first_row, tile, &acc, others_follow);
    }
}
