//! The largest output of a row, kept while a matmul makes its outputs and never writes them.
//!
//! Each chunk of tiles keeps its own best per row; the chunks' bests are compared in order afterwards. Ties go to the
//! lower output, so the choice is that of a scan over the whole row.

use crate::cpu::isa::simd::{LANES, Simd};
use crate::cpu::shared::SharedMut;

/// The best of a row in a chunk of outputs.
#[derive(Clone, Copy)]
pub(crate) struct RowBest {
    /// Sum of `0 * output` in each lane: NaN once an output was not finite.
    zeros: [f32; LANES],
    value: f32,
    output: u32,
}

impl RowBest {
    pub(crate) const NONE: RowBest = RowBest { zeros: [0.0; LANES], value: f32::NEG_INFINITY, output: 0 };

    /// The best output of all chunks, if every output is finite.
    pub(crate) fn best_of<'a>(chunks: impl Iterator<Item = &'a RowBest>) -> Option<u32> {
        let mut best = RowBest::NONE;
        let mut is_finite = true;
        for chunk in chunks {
            is_finite &= chunk.zeros.iter().all(|zero| !zero.is_nan());
            if chunk.value > best.value {
                best = *chunk;
            }
        }
        // No finite output is below the start, so with outputs there is a best.
        (is_finite && best.value > f32::NEG_INFINITY).then_some(best.output)
    }
}

/// Where a matmul keeps the best outputs of its last rows.
#[derive(Clone, Copy)]
pub(crate) struct BestOutput<'a> {
    pub(crate) first_row: usize,
    pub(crate) num_rows: usize,
    pub(crate) tiles_per_chunk: usize,
    /// `[chunk][row]`, all [`RowBest::NONE`] at the start.
    pub(crate) bests: SharedMut<'a, RowBest>,
}

impl BestOutput<'_> {
    /// Takes the `count` outputs of a tile; lanes after them are zero.
    #[inline(always)]
    pub(crate) fn write<S: Simd>(self, s: S, row: usize, tile: usize, value: S::F, count: usize) {
        let chunk = tile / self.tiles_per_chunk;
        // SAFETY: what is kept for a chunk belongs to the thread that runs it.
        let [best] = (unsafe { self.bests.part(chunk * self.num_rows + row - self.first_row, 1) }) else { return };
        let zeros = s.fma(value, s.splat(0.0), s.load(&best.zeros));
        s.store(zeros, &mut best.zeros);
        // Which lane it is, is only asked when one is better: a few times in a row of thousands.
        let value = s.keep_first(value, count, f32::NEG_INFINITY);
        if s.max_lane(value) > best.value {
            let mut lanes = [0.0; LANES];
            s.store(value, &mut lanes);
            for (lane, value) in lanes.into_iter().enumerate() {
                if value > best.value {
                    best.value = value;
                    best.output = (tile * LANES + lane) as u32;
                }
            }
        }
    }
}
