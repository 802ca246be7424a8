//! Matmul with float weights: f32 activations by tiles of 16 outputs, interleaved by input.
//!
//! Each (row, output) has four accumulators; input `k` goes to accumulator `k % 4`, and at the end they are added as
//! `(0 + 1) + (2 + 3)`, whatever the number of rows worked on at once.

use std::marker::PhantomData;

use super::float::FloatWeights;
use super::output::Output;
use crate::cpu::activations::Activations;
use crate::cpu::isa::simd::{Simd, Task};

/// A run of tiles for all rows: one task per chunk.
pub(crate) struct FloatTiles<'a, W: FloatWeights> {
    pub(crate) weights: &'a [W::Stored],
    pub(crate) first_tile: usize,
    pub(crate) num_tiles: usize,
    pub(crate) x: &'a Activations,
    pub(crate) first_row: usize,
    pub(crate) num_rows: usize,
    pub(crate) out: Output<'a>,
    pub(crate) format: PhantomData<W>,
}

impl<W: FloatWeights> Task for FloatTiles<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for tile in self.first_tile..self.first_tile + self.num_tiles {
            let (mut row, end) = (self.first_row, self.first_row + self.num_rows);
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

impl<W: FloatWeights> FloatTiles<'_, W> {
    #[inline(always)]
    fn panel<S: Simd, const R: usize>(&self, s: S, tile: usize, first_row: usize) {
        let num_inputs = self.x.cols();
        let weights = &self.weights[tile * num_inputs..][..num_inputs];
        let x = &self.x.f32()[first_row * num_inputs..][..R * num_inputs];
        let mut ahead = self.out.ahead::<R>(first_row, tile + 1);
        ahead.ask(s, ahead.num_lines());
        let mut acc = [[s.splat(0.0); 4]; R];
        let (fours, rest) = weights.as_chunks::<4>();
        for (four, stored) in fours.iter().enumerate() {
            for part in 0..4 {
                let weights = W::load(s, &stored[part]);
                for row in 0..R {
                    // SAFETY: row < R and 4 * four + part < num_inputs, so the index is below R * num_inputs.
                    let x = unsafe { *x.get_unchecked(row * num_inputs + 4 * four + part) };
                    acc[row][part] = s.fma(weights, s.splat(x), acc[row][part]);
                }
            }
        }
        for (part, stored) in rest.iter().enumerate() {
            let weights = W::load(s, stored);
            for row in 0..R {
                let x = x[row * num_inputs + 4 * fours.len() + part];
                acc[row][part] = s.fma(weights, s.splat(x), acc[row][part]);
            }
        }
        let sums = acc.map(|acc| s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])));
        self.out.write(s, first_row, tile, &sums, false);
    }
}
