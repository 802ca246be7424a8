//! From the block formats of model files to tiles of 16 outputs.
//!
//! A tile holds 16 outputs; a block of it holds 32 inputs. A line of 64 bytes has, for each of the 16 outputs, the
//! weights of four inputs that follow one another: byte `4 * output + input % 4`.
//!
//! ```text
//! bytes    8 lines per block   line l: inputs 4l .. 4l+3
//! nibbles  4 lines per block   line l: low nibbles inputs 4l .. 4l+3, high nibbles inputs 16+4l .. 16+4l+3
//! ```
//!
//! Factors (scales and minima) lie apart, 16 outputs side by side, in the order of blocks, and as exact as in the file.
//! Outputs that fill up the last tile have zero weights.

mod blocks;

use self::blocks::Block;
use crate::cpu::isa::simd::LANES;
use crate::cpu::slab::{Regions, Slab};
use crate::cpu::tiles::{Line, Quantized, Tiles};
use crate::error::{KernelError, check_equal};
use crate::format::WeightType;

/// Checked bytes of a matrix in a file.
pub(crate) struct Source<'a> {
    weight_type: WeightType,
    out_features: usize,
    in_features: usize,
    bytes: &'a [u8],
    row_order: Option<&'a [u32]>,
    regions: &'a Regions,
}

impl<'a> Source<'a> {
    /// Checks sizes and the row order.
    pub(crate) fn new(
        regions: &'a Regions,
        weight_type: WeightType,
        out_features: usize,
        in_features: usize,
        bytes: &'a [u8],
        row_order: Option<&'a [u32]>,
    ) -> Result<Self, KernelError> {
        const OP: &str = "Matrix::pack";
        let block_len = weight_type.block_len();
        check_equal(OP, "remainder of in_features by the block length", 0, in_features % block_len)?;
        let row_bytes = (in_features / block_len).saturating_mul(weight_type.block_bytes());
        check_equal(OP, "bytes", row_bytes.saturating_mul(out_features), bytes.len())?;
        if let Some(order) = row_order {
            check_equal(OP, "row_order length", out_features, order.len())?;
            if let Some(row) = order.iter().find(|row| **row as usize >= out_features) {
                let limit = out_features.saturating_sub(1);
                return Err(KernelError::Limit { op: OP, what: "row in row_order", limit, given: *row as usize });
            }
        }
        Ok(Source { weight_type, out_features, in_features, bytes, row_order, regions })
    }

    /// The file's bytes of result row `row`; `None` beyond the last.
    fn row(&self, row: usize) -> Option<&'a [u8]> {
        if row >= self.out_features {
            return None;
        }
        let row = self.row_order.map_or(row, |order| order[row] as usize);
        let row_bytes = self.in_features / self.weight_type.block_len() * self.weight_type.block_bytes();
        Some(&self.bytes[row * row_bytes..][..row_bytes])
    }

    fn num_tiles(&self) -> usize {
        self.out_features.div_ceil(LANES)
    }
}

/// Packs a checked source.
pub(crate) fn pack(source: &Source<'_>) -> Tiles {
    match source.weight_type {
        WeightType::F32 => Tiles::F32(pack_floats(source, f32::from_le_bytes)),
        WeightType::F16 => Tiles::F16(pack_floats(source, u16::from_le_bytes)),
        WeightType::BF16 => Tiles::BF16(pack_floats(source, u16::from_le_bytes)),
        WeightType::Q4_0 => Tiles::NibbleScale(pack_quantized::<blocks::Q4_0, _, _>(source, store_nibbles)),
        WeightType::Q4_1 => Tiles::NibbleMin(pack_quantized::<blocks::Q4_1, _, _>(source, store_nibbles)),
        WeightType::Q5_0 => Tiles::ByteScale(pack_quantized::<blocks::Q5_0, _, _>(source, store_bytes)),
        WeightType::Q5_1 => Tiles::ByteMin(pack_quantized::<blocks::Q5_1, _, _>(source, store_bytes)),
        WeightType::Q8_0 => Tiles::ByteScale(pack_quantized::<blocks::Q8_0, _, _>(source, store_bytes)),
        WeightType::Q4_K => Tiles::NibbleK32(pack_quantized::<blocks::Q4K, _, _>(source, store_nibbles)),
        WeightType::Q5_K => Tiles::ByteK32(pack_quantized::<blocks::Q5K, _, _>(source, store_bytes)),
        WeightType::Q6_K => Tiles::ByteK16(pack_quantized::<blocks::Q6K, _, _>(source, store_bytes)),
    }
}

/// Interleaves 16 rows of plain values by input.
fn pack_floats<T: Copy + Default, const N: usize>(source: &Source<'_>, read: fn([u8; N]) -> T) -> Slab<[T; LANES]> {
    let mut tiles = Slab::filled(source.regions, [T::default(); LANES], source.num_tiles() * source.in_features);
    for (tile, inputs) in tiles.chunks_mut(source.in_features.max(1)).enumerate() {
        for lane in 0..LANES {
            let Some(bytes) = source.row(tile * LANES + lane) else { break };
            for (to, bytes) in inputs.iter_mut().zip(bytes.as_chunks().0) {
                to[lane] = read(*bytes);
            }
        }
    }
    tiles
}

/// Packs rows of blocks `B`; `store` puts the 32 weights of one output into a 32-block's lines.
fn pack_quantized<B: Block, S, const LINES: usize>(source: &Source<'_>, store: S) -> Quantized<B::Factors>
where
    S: Fn(&mut [Line; LINES], usize, &[u8; 32]),
{
    let blocks_per_row = source.in_features / B::LEN;
    let lines_per_block = LINES * (B::LEN / 32);
    let mut factors = Slab::filled(source.regions, B::EMPTY, source.num_tiles() * blocks_per_row);
    let mut lines = Slab::filled(source.regions, Line([B::ZERO_LINE; 64]), factors.len() * lines_per_block);
    let mut weights = [0; 256];
    for (tile, factors) in factors.chunks_mut(blocks_per_row.max(1)).enumerate() {
        let lines = &mut lines[tile * blocks_per_row * lines_per_block..];
        for lane in 0..LANES {
            let Some(bytes) = source.row(tile * LANES + lane) else { break };
            let blocks = bytes.chunks_exact(source.weight_type.block_bytes());
            for ((bytes, factors), lines) in blocks.zip(&mut *factors).zip(lines.chunks_mut(lines_per_block)) {
                B::unpack(bytes, lane, factors, &mut weights);
                for (weights, lines) in weights.as_chunks().0.iter().zip(lines.as_chunks_mut().0) {
                    store(lines, lane, weights);
                }
            }
        }
    }
    Quantized { lines, factors }
}

fn store_nibbles(lines: &mut [Line; 4], lane: usize, weights: &[u8; 32]) {
    for (at, line) in lines.iter_mut().enumerate() {
        for input in 0..4 {
            line.0[4 * lane + input] = weights[4 * at + input] | weights[16 + 4 * at + input] << 4;
        }
    }
}

fn store_bytes(lines: &mut [Line; 8], lane: usize, weights: &[u8; 32]) {
    for (at, line) in lines.iter_mut().enumerate() {
        line.0[4 * lane..][..4].copy_from_slice(&weights[4 * at..][..4]);
    }
}
