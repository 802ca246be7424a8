//! `out (=|+=) W x` for one or several matrices that read the same activations.

use std::marker::PhantomData;

use crate::KernelError;
use crate::activations::Activations;
use crate::cpu::simd::Simd;
use crate::cpu::{Cpu, Kernel};
use crate::error::{check_equal, check_limit, check_rows};
use crate::lanes::lora::Shrink;
use crate::lanes::matmul_float::{BF16, F16, F32, FloatTiles, FloatWeights};
use crate::lanes::matmul_quantized::{
    Around8, Bytes, Dot, Factors, K16, K32, Nibbles, Output, Plain, QuantizedTiles, Scale, ScaleMin, Signed,
    SignedHalves, Weights,
};
use crate::matrix::{Matrix, Quantized, Tiles};
use crate::shared::SharedMut;

/// What a matmul does with what is in the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputMode {
    /// Replaces it.
    Overwrite,
    /// Adds to it.
    Accumulate,
}

/// One matrix of a matmul and where its outputs go.
pub struct MatmulTarget<'a> {
    /// `[out_features, in_features]`.
    pub matrix: &'a Matrix,
    /// `num_rows * out_features` values, row-major.
    pub out: &'a mut [f32],
    /// Replace or add.
    pub mode: OutputMode,
}

/// Targets that one dispatch takes; a longer list takes several.
pub(crate) const TARGETS_PER_DISPATCH: usize = 8;
/// Chunks per thread: enough that a thread that lost its core for a while delays the others little.
const CHUNKS_PER_THREAD: usize = 8;

/// `out[row, j] (=|+=) sum over k of W[j, k] * x[row, k]` for the first `num_rows` rows of `x` and every target.
///
/// Quantised matrices use the int8 copy of `x`, float matrices the f32 copy. The targets share one dispatch.
pub fn matmul(
    cpu: &Cpu,
    x: &Activations,
    num_rows: usize,
    targets: &mut [MatmulTarget<'_>],
) -> Result<(), KernelError> {
    const OP: &str = "matmul";
    check_limit(OP, "num_rows", x.max_rows(), num_rows)?;
    for target in &*targets {
        check_matrix(OP, x, num_rows, target.matrix, target.out)?;
    }
    if num_rows == 0 {
        return Ok(());
    }
    for targets in targets.chunks_mut(TARGETS_PER_DISPATCH) {
        let mut products = [None; TARGETS_PER_DISPATCH];
        for (product, target) in products.iter_mut().zip(targets) {
            let (matrix, out_features) = (target.matrix, target.matrix.out_features());
            let out = Output { out: SharedMut::new(target.out), out_features, mode: target.mode, best: None };
            *product = Some(Product { matrix, out });
        }
        dispatch(cpu, x, num_rows, &products, None);
    }
    Ok(())
}

/// Checks that a matrix fits its activations and its output.
pub(crate) fn check_matrix(
    op: &'static str,
    x: &Activations,
    num_rows: usize,
    matrix: &Matrix,
    out: &[f32],
) -> Result<(), KernelError> {
    check_equal(op, "in_features", x.cols(), matrix.in_features())?;
    check_rows(op, "out", num_rows, matrix.out_features(), out.len())
}

/// A matrix and what becomes of its outputs.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) matrix: &'a Matrix,
    pub(crate) out: Output<'a>,
}

/// Runs up to [`TARGETS_PER_DISPATCH`] products, and beside them the shrink of their adapters.
pub(crate) fn dispatch<'a>(
    cpu: &Cpu,
    x: &'a Activations,
    num_rows: usize,
    products: &[Option<Product<'a>>],
    shrink: Option<&'a Shrink<'a>>,
) {
    let num_tiles: usize = products.iter().flatten().map(|product| product.matrix.num_tiles()).sum();
    let tiles_per_chunk = tiles_per_chunk(cpu, num_tiles);
    let mut num_chunks = 0;
    let mut parts = [const { None }; TARGETS_PER_DISPATCH];
    for (part, product) in parts.iter_mut().zip(products.iter().flatten()) {
        *part = Some(Part { matrix: product.matrix, out: product.out, first_chunk: num_chunks });
        num_chunks += product.matrix.num_tiles().div_ceil(tiles_per_chunk);
    }
    let num_shrink_chunks = shrink.map_or(0, Shrink::num_chunks);
    let num_pairs = num_shrink_chunks.min(num_chunks);
    let matmul = Matmul { x, num_rows, parts, tiles_per_chunk, shrink, num_shrink_chunks, num_pairs };
    cpu.launch(num_chunks + num_shrink_chunks, &matmul);
}

/// How many of a dispatch's tiles make a chunk.
pub(crate) fn tiles_per_chunk(cpu: &Cpu, num_tiles: usize) -> usize {
    (num_tiles / (cpu.num_threads() * CHUNKS_PER_THREAD)).max(1)
}

struct Matmul<'a> {
    x: &'a Activations,
    num_rows: usize,
    parts: [Option<Part<'a>>; TARGETS_PER_DISPATCH],
    tiles_per_chunk: usize,
    shrink: Option<&'a Shrink<'a>>,
    num_shrink_chunks: usize,
    /// The first chunks alternate, so that one thread waits for adapters from memory while another one calculates: so
    /// many of each kind.
    num_pairs: usize,
}

/// A target and the number of its first chunk.
struct Part<'a> {
    matrix: &'a Matrix,
    out: Output<'a>,
    first_chunk: usize,
}

/// Tiles of a target that make a chunk.
#[derive(Clone, Copy)]
struct TileRange {
    first: usize,
    count: usize,
}

impl Kernel for Matmul<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        let is_paired = chunk < 2 * self.num_pairs;
        let is_shrink = if is_paired { chunk.is_multiple_of(2) } else { self.num_pairs < self.num_shrink_chunks };
        let chunk = if is_paired { chunk / 2 } else { chunk - self.num_pairs };
        if let Some(shrink) = self.shrink.filter(|_| is_shrink) {
            return shrink.run_chunk(s, chunk);
        }
        let Some(part) = self.parts.iter().flatten().rev().find(|part| part.first_chunk <= chunk) else { return };
        let first = (chunk - part.first_chunk) * self.tiles_per_chunk;
        let count = self.tiles_per_chunk.min(part.matrix.num_tiles() - first);
        self.run_tiles(s, part, TileRange { first, count });
    }
}

impl Matmul<'_> {
    #[inline(always)]
    fn run_tiles<S: Simd>(&self, s: S, part: &Part<'_>, tiles: TileRange) {
        match part.matrix.tiles() {
            Tiles::NibbleScale(weights) => self.quantized::<S, Nibbles, Around8, Scale>(s, part, weights, tiles),
            Tiles::NibbleMin(weights) => self.quantized::<S, Nibbles, Plain, ScaleMin>(s, part, weights, tiles),
            Tiles::NibbleK32(weights) => self.quantized::<S, Nibbles, Plain, K32>(s, part, weights, tiles),
            Tiles::ByteScale(weights) => self.quantized::<S, Bytes, Signed, Scale>(s, part, weights, tiles),
            Tiles::ByteMin(weights) => self.quantized::<S, Bytes, Plain, ScaleMin>(s, part, weights, tiles),
            Tiles::ByteK32(weights) => self.quantized::<S, Bytes, Plain, K32>(s, part, weights, tiles),
            Tiles::ByteK16(weights) => self.quantized::<S, Bytes, SignedHalves, K16>(s, part, weights, tiles),
            Tiles::F16(weights) => self.float::<S, F16>(s, part, weights, tiles),
            Tiles::BF16(weights) => self.float::<S, BF16>(s, part, weights, tiles),
            Tiles::F32(weights) => self.float::<S, F32>(s, part, weights, tiles),
        }
    }

    #[inline(always)]
    fn quantized<S: Simd, W: Weights, D: Dot, F: Factors>(
        &self,
        s: S,
        part: &Part<'_>,
        weights: &Quantized<F::Stored>,
        tiles: TileRange,
    ) {
        s.call(QuantizedTiles::<W, D, F> {
            weights,
            first_tile: tiles.first,
            num_tiles: tiles.count,
            x: self.x,
            num_rows: self.num_rows,
            out: part.out,
            format: PhantomData,
        });
    }

    #[inline(always)]
    fn float<S: Simd, W: FloatWeights>(&self, s: S, part: &Part<'_>, weights: &[W::Stored], tiles: TileRange) {
        s.call(FloatTiles::<W> {
            weights,
            first_tile: tiles.first,
            num_tiles: tiles.count,
            x: self.x,
            num_rows: self.num_rows,
            out: part.out,
            format: PhantomData,
        });
    }
}
