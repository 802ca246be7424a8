//! What becomes of a product's sums while they are in registers: what adapters add to them, then memory or a choice.

use super::best::BestOutput;
use super::expand::{Ahead, Expand, ExpandPanel};
use crate::cpu::isa::simd::{LANES, Simd};
use crate::cpu::shared::SharedMut;
use crate::runs::OutputMode;

/// Where a matmul writes, and how.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    pub(crate) out: SharedMut<'a, f32>,
    pub(crate) out_features: usize,
    pub(crate) mode: OutputMode,
    /// What adapters add to the product.
    pub(crate) expand: Option<Expand<'a>>,
    /// Rows from a number on are not written; the best output of each is kept.
    pub(crate) best: Option<BestOutput<'a>>,
}

impl Output<'_> {
    /// Takes the sums of a tile in `R` rows. `others_follow`: another thread may be writing the rows after these.
    #[inline(always)]
    pub(crate) fn write<S: Simd, const R: usize>(
        &self,
        s: S,
        first_row: usize,
        tile: usize,
        sums: &[S::F; R],
        others_follow: bool,
    ) {
        let expand = self.expand.filter(|expand| expand.acts_on(first_row, R));
        let Some(expand) = expand else { return self.write_rows(s, first_row, tile, sums, others_follow) };
        let mut lanes = [[0.0; LANES]; R];
        for row in 0..R {
            s.store(sums[row], &mut lanes[row]);
        }
        let panel = ExpandPanel { expand: &expand, out_features: self.out_features, first_row, tile, sums: &mut lanes };
        s.call(panel);
        let mut sums = [s.splat(0.0); R];
        for row in 0..R {
            sums[row] = s.load(&lanes[row]);
        }
        self.write_rows(s, first_row, tile, &sums, others_follow);
    }

    /// What the expand of a tile in `R` rows will read, to be asked for before it is needed.
    #[inline(always)]
    pub(crate) fn ahead<const R: usize>(&self, first_row: usize, tile: usize) -> Ahead<R> {
        match &self.expand {
            Some(expand) => expand.ahead(first_row, tile, self.out_features),
            None => Ahead::NOTHING,
        }
    }

    #[inline(always)]
    fn write_rows<S: Simd, const R: usize>(
        &self,
        s: S,
        first_row: usize,
        tile: usize,
        sums: &[S::F; R],
        others_follow: bool,
    ) {
        for at in 0..R {
            let row = if others_follow { without_step::<R>(at) } else { at };
            self.write_row(s, first_row + row, tile, sums[row]);
        }
    }

    /// Writes the 16 outputs (or what there is of them) of a tile in a row.
    #[inline(always)]
    fn write_row<S: Simd>(&self, s: S, row: usize, tile: usize, value: S::F) {
        let first = tile * LANES;
        let count = LANES.min(self.out_features - first);
        if let Some(best) = self.best.filter(|best| row >= best.first_row) {
            return best.write(s, row, tile, s.keep_first(value, count, 0.0), count);
        }
        // SAFETY: a tile belongs to one chunk, and a tile's outputs of a row are written by nobody else.
        let out = unsafe { self.out.part(row * self.out_features + first, count) };
        let value = match self.mode {
            OutputMode::Overwrite => value,
            OutputMode::Accumulate => s.add(s.load_part(out), value),
        };
        s.store_part(value, out);
    }
}

/// The rows of a panel in an order without a constant step. In order of rows the hardware seems to follow the step and
/// fetch the outputs of the next rows for writing: a gain where the same thread writes them next, but after a chunk's
/// last row they are those of another thread, which writes them now. With two threads of eight rows each that cost a
/// tenth.
#[inline(always)]
fn without_step<const R: usize>(at: usize) -> usize {
    if R < 4 { at } else { at % 2 * (R / 2) + at / 2 }
}
