//! Ops that work on a row at a time and end in quantised activations: RMS norm, SwiGLU, plain quantisation.

use super::math::silu;
use crate::cpu::activations::{Activations, BlockMeta, QuantBlock, quantize_row};
use crate::cpu::backend::Kernel;
use crate::cpu::isa::simd::{LANES, Simd};
use crate::cpu::shared::SharedMut;

/// Rows per chunk of an op that is worth splitting.
const ROWS_PER_CHUNK: usize = 4;
/// Below this many values an op is one chunk: a fork-join would cost as much as it saves.
const VALUES_WORTH_A_FORK: usize = 8 * 1024;

/// What a row op makes of one row.
pub(crate) trait RowOp: Sync {
    /// Computes row `row` into `out`. `#[inline(always)]`.
    fn row<S: Simd>(&self, s: S, row: usize, out: &mut [f32]);
}

/// A row op with its output.
pub(crate) struct RowKernel<'a, O> {
    op: O,
    num_rows: usize,
    rows_per_chunk: usize,
    cols: usize,
    num_blocks: usize,
    values: SharedMut<'a, f32>,
    quants: SharedMut<'a, QuantBlock>,
    metas: SharedMut<'a, BlockMeta>,
}

impl<'a, O: RowOp> RowKernel<'a, O> {
    pub(crate) fn new(op: O, num_rows: usize, out: &'a mut Activations) -> Self {
        let (cols, num_blocks) = (out.cols(), out.num_blocks());
        let (values, quants, metas) = out.parts_mut();
        let split = num_rows * cols >= VALUES_WORTH_A_FORK;
        RowKernel {
            op,
            num_rows,
            rows_per_chunk: if split { ROWS_PER_CHUNK } else { num_rows.max(1) },
            cols,
            num_blocks,
            values: SharedMut::new(values),
            quants: SharedMut::new(quants),
            metas: SharedMut::new(metas),
        }
    }

    pub(crate) fn num_chunks(&self) -> usize {
        self.num_rows.div_ceil(self.rows_per_chunk)
    }
}

impl<O: RowOp> Kernel for RowKernel<'_, O> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let first = chunk * self.rows_per_chunk;
        for row in first..(first + self.rows_per_chunk).min(self.num_rows) {
            // SAFETY: a row belongs to one chunk.
            let values = unsafe { self.values.part(row * self.cols, self.cols) };
            // SAFETY: as above.
            let quants = unsafe { self.quants.part(row * self.num_blocks, self.num_blocks) };
            // SAFETY: as above.
            let metas = unsafe { self.metas.part(row * self.num_blocks, self.num_blocks) };
            self.op.row(s, row, values);
            quantize_row(s, values, quants, metas);
        }
    }
}

/// Copies.
pub(crate) struct CopyRows<'a> {
    pub(crate) x: &'a [f32],
}

impl RowOp for CopyRows<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, _s: S, row: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.x[row * out.len()..][..out.len()]);
    }
}

/// `silu(gate) * up`.
pub(crate) struct SwiGlu<'a> {
    pub(crate) gate: &'a [f32],
    pub(crate) up: &'a [f32],
}

impl RowOp for SwiGlu<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, s: S, row: usize, out: &mut [f32]) {
        let gate = &self.gate[row * out.len()..][..out.len()];
        let up = &self.up[row * out.len()..][..out.len()];
        for ((out, gate), up) in out.chunks_mut(LANES).zip(gate.chunks(LANES)).zip(up.chunks(LANES)) {
            let value = s.mul(silu(s, s.load_part(gate)), s.load_part(up));
            s.store_part(value, out);
        }
    }
}

/// `x / sqrt(mean(x^2) + eps) * weight`.
pub(crate) struct RmsNorm<'a> {
    pub(crate) x: &'a [f32],
    /// Source row of each output row; `None` is the same row.
    pub(crate) picked: Option<&'a [u32]>,
    pub(crate) base: &'a [f32],
    /// Sorted by row of the output.
    pub(crate) overrides: &'a [(usize, &'a [f32])],
    pub(crate) eps: f32,
}

impl RowOp for RmsNorm<'_> {
    #[inline(always)]
    fn row<S: Simd>(&self, s: S, row: usize, out: &mut [f32]) {
        let source = self.picked.map_or(row, |picked| picked[row] as usize);
        let x = &self.x[source * out.len()..][..out.len()];
        let weight = match self.overrides.binary_search_by_key(&row, |(row, _)| *row) {
            Ok(at) => self.overrides[at].1,
            Err(_) => self.base,
        };
        // Two accumulators, for vectors of even and of odd number.
        let mut squares = [s.splat(0.0); 2];
        for pair in x.chunks(2 * LANES) {
            let (even, odd) = pair.split_at(pair.len().min(LANES));
            let (even, odd) = (s.load_part(even), s.load_part(odd));
            squares[0] = s.fma(even, even, squares[0]);
            squares[1] = s.fma(odd, odd, squares[1]);
        }
        let mean = s.sum(s.add(squares[0], squares[1])) / out.len() as f32;
        let inverse = s.splat(1.0 / (mean + self.eps).sqrt());
        for ((out, x), weight) in out.chunks_mut(LANES).zip(x.chunks(LANES)).zip(weight.chunks(LANES)) {
            let value = s.mul(s.mul(s.load_part(x), inverse), s.load_part(weight));
            s.store_part(value, out);
        }
    }
}
