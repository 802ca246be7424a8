//! Segments of long sequences: what a pass hands over, and putting it together.

use crate::cpu::backend::Kernel;
use crate::cpu::isa::simd::{LANES, Simd};
use crate::cpu::lanes::math::exp;
use crate::cpu::shared::SharedMut;
use crate::runs::AttentionSpan;
use crate::runs::BLOCK_TOKENS;

/// Blocks of a segment.
pub(super) const SEGMENT_BLOCKS: usize = 32;
/// Tokens of a segment. Up to here a sequence is worked on in one go.
const SEGMENT_TOKENS: usize = SEGMENT_BLOCKS * BLOCK_TOKENS;

/// Segments of the first `length` tokens.
pub(crate) fn num_segments(length: usize) -> usize {
    length.div_ceil(SEGMENT_TOKENS)
}

/// Results of the segments of rows that have several: for each row, head and segment the maximum, the sum and `dim`
/// values.
#[derive(Clone, Copy)]
pub(crate) struct Partials<'a> {
    pub(crate) values: SharedMut<'a, f32>,
    pub(crate) num_heads: usize,
    pub(crate) dim: usize,
    /// Of the longest row.
    pub(crate) num_segments: usize,
}

impl<'a> Partials<'a> {
    /// Floats that so many rows take.
    pub(crate) fn len(num_rows: usize, num_heads: usize, dim: usize, num_segments: usize) -> usize {
        num_rows * num_heads * num_segments * (dim + 2)
    }

    /// # Safety
    /// Nobody else uses this segment of this head of this row while the result lives.
    #[inline(always)]
    pub(super) unsafe fn of(&self, row: usize, head: usize, segment: usize) -> &'a mut [f32] {
        let at = (row * self.num_heads + head) * self.num_segments + segment;
        // SAFETY: the caller's promise.
        unsafe { self.values.part(at * (self.dim + 2), self.dim + 2) }
    }
}

/// Second dispatch: adds up the segments of every row that has several, in their order. A chunk is a row.
///
/// ```text
/// m' = max(m, m_s);  l = l exp(m - m') + l_s exp(m_s - m');  acc likewise
/// ```
pub(crate) struct Join<'a> {
    pub(crate) spans: &'a [AttentionSpan<'a>],
    pub(crate) partials: Partials<'a>,
    pub(crate) out: SharedMut<'a, f32>,
}

impl Join<'_> {
    pub(crate) fn num_chunks(&self) -> usize {
        self.spans.iter().map(|span| span.num_rows).sum()
    }
}

impl Kernel for Join<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let mut row = chunk;
        for span in self.spans {
            if row < span.num_rows {
                let num_segments = num_segments(span.first_position + row + 1);
                if num_segments > 1 {
                    (0..self.partials.num_heads)
                        .for_each(|head| self.join(s, span.first_row + row, head, num_segments));
                }
                return;
            }
            row -= span.num_rows;
        }
    }
}

impl Join<'_> {
    #[inline(always)]
    fn join<S: Simd>(&self, s: S, row: usize, head: usize, num_segments: usize) {
        let dim = self.partials.dim;
        // SAFETY: a row belongs to one chunk, and the passes that wrote the segments have ended.
        let out = unsafe { self.out.part((row * self.partials.num_heads + head) * dim, dim) };
        // SAFETY: as above.
        let first: &[f32] = unsafe { self.partials.of(row, head, 0) };
        let (mut max, mut sum) = (first[0], first[1]);
        out.copy_from_slice(&first[2..]);
        for segment in 1..num_segments {
            // SAFETY: as above.
            let next: &[f32] = unsafe { self.partials.of(row, head, segment) };
            let highest = if next[0] > max { next[0] } else { max };
            let factors = [exp(s, s.splat(max - highest)), exp(s, s.splat(next[0] - highest))];
            (max, sum) = (highest, sum * s.max_lane(factors[0]) + next[1] * s.max_lane(factors[1]));
            for (out, next) in out.chunks_mut(LANES).zip(next[2..].chunks(LANES)) {
                let before = s.mul(s.load_part(out), factors[0]);
                s.store_part(s.fma(s.load_part(next), factors[1], before), out);
            }
        }
        let inverse = s.splat(1.0 / sum);
        for out in out.chunks_mut(LANES) {
            s.store_part(s.mul(s.load_part(out), inverse), out);
        }
    }
}
