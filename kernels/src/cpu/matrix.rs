//! A weight matrix, packed once at load into tiles of 16 outputs.

use half::{bf16, f16};

use crate::cpu::isa::simd::LANES;
use crate::cpu::pack;
use crate::cpu::slab::Regions;
use crate::cpu::tiles::{FactorsK32, HalfLanes, Line, Quantized, Tiles};
use crate::error::KernelError;
use crate::format::WeightType;

/// A packed matrix `[out_features, in_features]`. See [`Matrix::pack`].
pub struct Matrix {
    weight_type: WeightType,
    out_features: usize,
    in_features: usize,
    tiles: Tiles,
}

impl Matrix {
    /// Packs `bytes`: `out_features` rows, each a run of blocks in the layout of GGML. Row `i` of the result is source
    /// row `row_order[i]`; `None` keeps the order.
    ///
    /// ```
    /// use souk_kernels::WeightType;
    /// use souk_kernels::cpu::Matrix;
    /// let rows: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    /// let matrix = Matrix::pack(WeightType::F32, 2, 2, &rows, Some(&[1, 0]))?;
    /// let mut row = [0.0; 2];
    /// matrix.dequantize_row(0, &mut row);
    /// assert_eq!(row, [3.0, 4.0]);
    /// # Ok::<(), souk_kernels::KernelError>(())
    /// ```
    pub fn pack(
        weight_type: WeightType,
        out_features: usize,
        in_features: usize,
        bytes: &[u8],
        row_order: Option<&[u32]>,
    ) -> Result<Matrix, KernelError> {
        Matrix::pack_in(&Regions::apart(), weight_type, out_features, in_features, bytes, row_order)
    }

    /// As [`pack`](Matrix::pack), beside the other matrices of a model.
    pub fn pack_in(
        regions: &Regions,
        weight_type: WeightType,
        out_features: usize,
        in_features: usize,
        bytes: &[u8],
        row_order: Option<&[u32]>,
    ) -> Result<Matrix, KernelError> {
        let source = pack::Source::new(regions, weight_type, out_features, in_features, bytes, row_order)?;
        Ok(Matrix { weight_type, out_features, in_features, tiles: pack::pack(&source) })
    }

    /// Rows: the width of what a matmul writes.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// Columns: the width of what a matmul reads.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// The type that the weights had in the file.
    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Bytes of memory of the packed weights.
    pub fn size_bytes(&self) -> usize {
        fn quantized<F>(tiles: &Quantized<F>) -> usize {
            size_of_val(&*tiles.lines) + size_of_val(&*tiles.factors)
        }
        match &self.tiles {
            Tiles::NibbleScale(tiles) | Tiles::ByteScale(tiles) => quantized(tiles),
            Tiles::NibbleMin(tiles) | Tiles::ByteMin(tiles) => quantized(tiles),
            Tiles::NibbleK32(tiles) | Tiles::ByteK32(tiles) => quantized(tiles),
            Tiles::ByteK16(tiles) => quantized(tiles),
            Tiles::F16(tiles) | Tiles::BF16(tiles) => size_of_val(&**tiles),
            Tiles::F32(tiles) => size_of_val(&**tiles),
        }
    }

    /// Writes row `row` as floats into the first `in_features` values of `out`.
    ///
    /// # Panics
    /// If there is no such row or `out` is shorter than a row; ops check both before.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.out_features, "row {row} of {}", self.out_features);
        let out = &mut out[..self.in_features];
        let at = Place { tile: row / LANES, lane: row % LANES, in_features: self.in_features };
        match &self.tiles {
            Tiles::NibbleScale(tiles) => at.blocks(out, |block, at_input| {
                let scale = half_at(&tiles.factors[block], at.lane);
                scale * (f32::from(nibble(&tiles.lines, block, at.lane, at_input)) - 8.0)
            }),
            Tiles::NibbleMin(tiles) => at.blocks(out, |block, at_input| {
                let [scale, min] = &tiles.factors[block];
                half_at(scale, at.lane) * f32::from(nibble(&tiles.lines, block, at.lane, at_input))
                    + half_at(min, at.lane)
            }),
            Tiles::NibbleK32(tiles) => at.blocks(out, |block, at_input| {
                let (scale, min) = at.factored(&tiles.factors, block);
                scale * f32::from(nibble(&tiles.lines, block, at.lane, at_input)) + min
            }),
            Tiles::ByteScale(tiles) => at.blocks(out, |block, at_input| {
                let scale = half_at(&tiles.factors[block], at.lane);
                scale * (f32::from(byte(&tiles.lines, block, at.lane, at_input)) - 128.0)
            }),
            Tiles::ByteMin(tiles) => at.blocks(out, |block, at_input| {
                let [scale, min] = &tiles.factors[block];
                half_at(scale, at.lane) * f32::from(byte(&tiles.lines, block, at.lane, at_input))
                    + half_at(min, at.lane)
            }),
            Tiles::ByteK32(tiles) => at.blocks(out, |block, at_input| {
                let (scale, min) = at.factored(&tiles.factors, block);
                scale * f32::from(byte(&tiles.lines, block, at.lane, at_input)) + min
            }),
            Tiles::ByteK16(tiles) => at.blocks(out, |block, at_input| {
                let factors = &tiles.factors[block / 8];
                let group = 2 * (block % 8) + at_input / 16;
                let scale = half_at(&factors.scale, at.lane) * f32::from(factors.groups[group][at.lane]);
                scale * (f32::from(byte(&tiles.lines, block, at.lane, at_input)) - 128.0)
            }),
            Tiles::F16(tiles) => at.inputs(out, |input| half_at(&tiles[input], at.lane)),
            Tiles::BF16(tiles) => at.inputs(out, |input| bf16::from_bits(tiles[input][at.lane]).to_f32()),
            Tiles::F32(tiles) => at.inputs(out, |input| tiles[input][at.lane]),
        }
    }

    pub(crate) fn tiles(&self) -> &Tiles {
        &self.tiles
    }

    pub(crate) fn num_tiles(&self) -> usize {
        self.out_features.div_ceil(LANES)
    }
}

/// Where a row lives.
struct Place {
    tile: usize,
    lane: usize,
    in_features: usize,
}

impl Place {
    /// Fills a row of quantised weights: `value(block of all blocks, input within the block)`.
    fn blocks(&self, out: &mut [f32], value: impl Fn(usize, usize) -> f32) {
        let first_block = self.tile * (self.in_features / 32);
        for (block, out) in out.chunks_mut(32).enumerate() {
            for (at_input, out) in out.iter_mut().enumerate() {
                *out = value(first_block + block, at_input);
            }
        }
    }

    /// Fills a row of float weights.
    fn inputs(&self, out: &mut [f32], value: impl Fn(usize) -> f32) {
        let first = self.tile * self.in_features;
        for (input, out) in out.iter_mut().enumerate() {
            *out = value(first + input);
        }
    }

    /// Scale and minimum of a 32-block of a K format.
    fn factored(&self, factors: &[FactorsK32], block: usize) -> (f32, f32) {
        let factors = &factors[block / 8];
        let scale = half_at(&factors.scale, self.lane) * f32::from(factors.scales[block % 8][self.lane]);
        let min = half_at(&factors.neg_min, self.lane) * f32::from(factors.mins[block % 8][self.lane]);
        (scale, min)
    }
}

fn half_at(lanes: &HalfLanes, lane: usize) -> f32 {
    f16::from_bits(lanes[lane]).to_f32()
}

/// The 4-bit weight of an input: see `pack::store_nibbles`.
fn nibble(lines: &[Line], block: usize, lane: usize, input: usize) -> u8 {
    let byte = lines[4 * block + input % 16 / 4].0[4 * lane + input % 4];
    if input < 16 { byte & 15 } else { byte >> 4 }
}

/// The 8-bit weight of an input: see `pack::store_bytes`.
fn byte(lines: &[Line], block: usize, lane: usize, input: usize) -> u8 {
    lines[8 * block + input / 4].0[4 * lane + input % 4]
}
