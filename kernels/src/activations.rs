//! Rows of activations, kept as f32 and as int8 with one scale per 32 values.

use crate::cpu::simd::{LANES, Simd};

/// Values that share one scale.
pub(crate) const QUANT_BLOCK: usize = 32;

/// Blocks whose greatest absolute value is below this are stored as zeros: the inverse of their scale is not finite.
const SMALLEST_AMAX: f32 = 1e-30;

/// What goes with 32 int8 values.
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

/// 32 int8 values, four to a word, in the order of memory.
pub(crate) type QuantBlock = [i32; QUANT_BLOCK / 4];

/// A buffer of up to `max_rows` rows of `cols` activations, allocated once. Ops fill it (`rms_norm`, `quantize`, `swiglu`)
/// and read it (`matmul`, `lora`).
///
/// Each row is held twice: as f32, and per 32 values as symmetric int8 (`scale = amax / 127`, nearest even).
pub struct Activations {
    max_rows: usize,
    cols: usize,
    values: Vec<f32>,
    quants: Vec<QuantBlock>,
    metas: Vec<BlockMeta>,
}

impl Activations {
    /// Zeroed rows.
    pub fn new(max_rows: usize, cols: usize) -> Self {
        let num_blocks = max_rows * cols.div_ceil(QUANT_BLOCK);
        Activations {
            max_rows,
            cols,
            values: vec![0.0; max_rows * cols],
            quants: vec![QuantBlock::default(); num_blocks],
            metas: vec![BlockMeta::default(); num_blocks],
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
            let bytes = quants.iter().flat_map(|word| word.to_ne_bytes());
            out.extend(bytes.map(|byte| meta.scale * f32::from(byte as i8)));
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

/// Quantises one row.
#[inline(always)]
pub(crate) fn quantize_row<S: Simd>(simd: S, values: &[f32], quants: &mut [QuantBlock], metas: &mut [BlockMeta]) {
    for ((values, quants), meta) in values.chunks(QUANT_BLOCK).zip(quants).zip(metas) {
        let (low, high) = values.split_at(values.len().min(LANES));
        let low = simd.load_part(low);
        let high = simd.load_part(high);
        let amax = simd.max_lane_int(simd.max_int(simd.abs_bits(low), simd.abs_bits(high)));
        let amax = f32::from_bits(amax as u32);
        let (scale, inverse) = if amax.is_finite() {
            if amax < SMALLEST_AMAX { (0.0, 0.0) } else { (amax / 127.0, 127.0 / amax) }
        } else {
            (f32::NAN, 0.0)
        };
        // With a NaN scale the quants only have to be within i8 and the same everywhere: zero.
        let inverse_lanes = simd.splat(inverse);
        let mut bytes = [[0_i8; LANES]; 2];
        let mut sums = [0_i32; 2];
        if amax.is_finite() {
            for (half, values) in [low, high].into_iter().enumerate() {
                let rounded = simd.round(simd.mul(values, inverse_lanes));
                simd.store_i8(rounded, &mut bytes[half]);
                sums[half] = simd.sum_int(rounded);
            }
        }
        for (word, at) in quants.iter_mut().zip(0..) {
            let half: &[i8; LANES] = &bytes[at / 4];
            let at = 4 * (at % 4);
            *word = i32::from_ne_bytes([half[at] as u8, half[at + 1] as u8, half[at + 2] as u8, half[at + 3] as u8]);
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
