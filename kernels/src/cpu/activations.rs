//! Rows of activations, kept as f32 and as two planes of int8 with one scale per 32 values.
//!
//! One plane would do for a model that was trained for it. This one was not: with one plane the logprobs of
//! SmolLM2-135M are off by 0.03 to 0.06 on average and up to 4 % of its first choices change; with two they agree
//! with f32 to 0.001. The second plane costs dot products, which decode has to spare, and no memory traffic of weights.

use crate::cpu::arena::{Arena, Zeroable};
use crate::cpu::isa::simd::{LANES, Simd};

/// Values that share one scale.
pub(crate) const QUANT_BLOCK: usize = 32;

/// A step of the coarse plane in steps of the fine one: a multiplication by it is a shift.
const COARSE: i32 = 256;

/// The least value of a plane, which the AVX2 path needs: -128 has no opposite.
const LEAST: i32 = -127;

/// The greatest quantised value: 127 coarse steps.
const GREATEST: i32 = 127 * COARSE;

/// Blocks whose greatest absolute value is below this are stored as zeros: the inverse of their scale is not finite.
const SMALLEST_AMAX: f32 = 1e-30;

/// What goes with 32 values, each `q = 256 * coarse + fine`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct BlockMeta {
    /// `x = scale * q`. NaN when a value of the block is not finite, so that the row's results show it.
    pub(crate) scale: f32,
    /// `scale * (sum of q)`.
    pub(crate) scaled_sum: f32,
    /// `-8 * (sum of q)`: what a dot product with weights stored `+ 8` starts from.
    pub(crate) around_8: i32,
    /// `-128 * (sum of q)`: the same for weights stored `+ 128`.
    pub(crate) around_128: i32,
    /// `around_128` of each half of 16.
    pub(crate) halves_around_128: [i32; 2],
}

/// 32 values in two planes of int8, four to a word, in the order of memory. One cache line.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct QuantBlock {
    pub(crate) coarse: [i32; QUANT_BLOCK / 4],
    pub(crate) fine: [i32; QUANT_BLOCK / 4],
}

// SAFETY: floats and integers.
unsafe impl Zeroable for BlockMeta {}

// SAFETY: integers.
unsafe impl Zeroable for QuantBlock {}

/// A buffer of up to `max_rows` rows of `cols` activations, allocated once. Ops fill it (`rms_norm`, `quantize`,
/// `swiglu`) and read it (`matmul`, `head`).
///
/// Each row is held twice: as f32, and per 32 values as symmetric integers of about 16 bits in two planes of int8
/// (`scale = amax / 32512`, nearest even; one in 256 values is one step higher).
pub struct Activations {
    max_rows: usize,
    cols: usize,
    values: Arena<f32>,
    quants: Arena<QuantBlock>,
    metas: Arena<BlockMeta>,
}

impl Activations {
    /// Zeroed rows.
    ///
    /// # Panics
    /// If the system has no such range of addresses.
    pub fn new(max_rows: usize, cols: usize) -> Self {
        let num_blocks = max_rows * cols.div_ceil(QUANT_BLOCK);
        Activations {
            max_rows,
            cols,
            values: Arena::new(max_rows * cols),
            quants: Arena::new(num_blocks),
            metas: Arena::new(num_blocks),
        }
    }

    /// The rows it can hold.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// The width of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The f32 copy, row-major, `max_rows * cols` values.
    pub fn f32(&self) -> &[f32] {
        &self.values
    }

    /// A row as the quantised matmul sees it.
    pub fn dequantized_row(&self, row: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.cols.next_multiple_of(QUANT_BLOCK));
        for (quants, meta) in self.row_quants(row).iter().zip(self.row_metas(row)) {
            let bytes =
                |plane: &[i32; 8]| plane.map(i32::to_ne_bytes).into_iter().flatten().map(|byte| i32::from(byte as i8));
            let values = bytes(&quants.coarse).zip(bytes(&quants.fine)).map(|(coarse, fine)| COARSE * coarse + fine);
            out.extend(values.map(|value| meta.scale * value as f32));
        }
        out.truncate(self.cols);
        out
    }

    /// Blocks per row; the last one is filled up with zeros.
    pub(crate) fn num_blocks(&self) -> usize {
        self.cols.div_ceil(QUANT_BLOCK)
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.cols..][..self.cols]
    }

    pub(crate) fn row_quants(&self, row: usize) -> &[QuantBlock] {
        let num_blocks = self.num_blocks();
        &self.quants[row * num_blocks..][..num_blocks]
    }

    pub(crate) fn row_metas(&self, row: usize) -> &[BlockMeta] {
        let num_blocks = self.num_blocks();
        &self.metas[row * num_blocks..][..num_blocks]
    }

    /// The parts of the buffer, for ops that write rows from several threads.
    pub(crate) fn parts_mut(&mut self) -> (&mut [f32], &mut [QuantBlock], &mut [BlockMeta]) {
        (&mut self.values, &mut self.quants, &mut self.metas)
    }
}

/// Quantises one row. The matmul multiplies the coarse dot product by 256 and goes on with the fine plane: see
/// [`combine`].
#[inline(always)]
pub(crate) fn quantize_row<S: Simd>(simd: S, values: &[f32], quants: &mut [QuantBlock], metas: &mut [BlockMeta]) {
    for ((values, quants), meta) in values.chunks(QUANT_BLOCK).zip(quants).zip(metas) {
        let (low, high) = values.split_at(values.len().min(LANES));
        let low = simd.load_part(low);
        let high = simd.load_part(high);
        let amax = simd.max_lane_int(simd.max_int(simd.abs_bits(low), simd.abs_bits(high)));
        let amax = f32::from_bits(amax as u32);
        let (scale, inverse) = if amax.is_finite() {
            let greatest = GREATEST as f32;
            if amax < SMALLEST_AMAX { (0.0, 0.0) } else { (amax / greatest, greatest / amax) }
        } else {
            (f32::NAN, 0.0)
        };
        *quants = QuantBlock::default();
        let mut sums = [0_i32; 2];
        // With a NaN scale the quants only have to be within i8 and the same everywhere: zero.
        if amax.is_finite() {
            let (coarse, fine) = (quants.coarse.as_chunks_mut().0, quants.fine.as_chunks_mut().0);
            for (half, values) in [low, high].into_iter().enumerate() {
                let value = simd.round(simd.mul(values, simd.splat(inverse)));
                // The half makes ties go up, so that a rest is within -128..=127. All of it is exact in f32.
                let per_step = 1.0 / COARSE as f32;
                let step = simd.fma(simd.int_to_float(value), simd.splat(per_step), simd.splat(0.5 * per_step));
                let step = simd.round(step);
                let rest = simd.max_int(simd.times_add(step, -COARSE, value), simd.splat_int(LEAST));
                simd.store_bytes(step, &mut coarse[half]);
                simd.store_bytes(rest, &mut fine[half]);
                sums[half] = simd.sum_int(simd.times_add(step, COARSE, rest));
            }
        }
        let sum = sums[0] + sums[1];
        *meta = BlockMeta {
            scale,
            scaled_sum: scale * sum as f32,
            around_8: -8 * sum,
            around_128: -128 * sum,
            halves_around_128: sums.map(|sum| -128 * sum),
        };
    }
}

/// What the fine dot product of a block starts from: the coarse one in fine steps, and `start`.
#[inline(always)]
pub(crate) fn combine<S: Simd>(simd: S, coarse: S::I, start: S::I) -> S::I {
    simd.times_add(coarse, COARSE, start)
}
