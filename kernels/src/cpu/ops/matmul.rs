//! `out (=|+=) W x` for one or several matrices that read the same activations, and what adapters add to it.

use std::marker::PhantomData;

use crate::cpu::activations::Activations;
use crate::cpu::backend::{Cpu, Kernel};
use crate::cpu::isa::simd::Simd;
use crate::cpu::lanes::float::{BF16, F16, F32, FloatWeights};
use crate::cpu::lanes::matmul_float::FloatTiles;
use crate::cpu::lanes::matmul_quantized::{
    Around8, Bytes, Dot, Factors, K16, K32, Nibbles, Plain, QuantizedTiles, Scale, ScaleMin, Signed, SignedHalves,
    Weights,
};
use crate::cpu::lanes::output::Output;
use crate::cpu::matrix::Matrix;
use crate::cpu::ops::lora::{LoraScratch, check_runs};
use crate::cpu::pair::LoraRun;
use crate::cpu::shared::SharedMut;
use crate::cpu::tiles::{Quantized, Tiles};
use crate::error::{KernelError, check_equal, check_limit, check_rows};
use crate::runs::{MODULES_PER_PLAN, OutputMode};

/// One matrix of a matmul, the adapters that act on it, and where the sums go.
pub struct MatmulTarget<'a> {
    /// `[out_features, in_features]`.
    pub matrix: &'a Matrix,
    /// `num_rows * out_features` values, row-major.
    pub out: &'a mut [f32],
    /// Whether the product replaces the output or is added to it.
    pub mode: OutputMode,
    /// Where several runs cover a row, they add up in this order.
    pub runs: &'a [LoraRun<'a>],
}

/// Targets that one dispatch takes; a longer list takes several.
const TARGETS_PER_DISPATCH: usize = MODULES_PER_PLAN;
/// Chunks per thread: enough that a thread that lost its core for a while delays the others little.
const CHUNKS_PER_THREAD: usize = 8;
/// Rows that the kernels work on together at most.
const PANEL_ROWS: usize = 8;
/// Most rows of a chunk: their activations stay in the second-level cache while the chunk's tiles pass by.
const MOST_ROWS_PER_CHUNK: usize = 64;
/// Parts that few rows are cut into at most: each reads all weights.
const MOST_PARTS: usize = 4;

/// `out[row, j] (=|+=) y[row, j]` for the first `num_rows` rows of `x` and every target, where `y = W x` plus, for each
/// run that covers the row, `weight * delta(x)`: `delta = B A x`, or with a gain `g` (DoRA) `g * (W x + B A x) - W x`.
///
/// Quantised matrices use the int8 copy of `x`, float matrices and adapters the f32 copy. The targets share one
/// dispatch for all their shrinks, if there are any, and one for the products. What adapters add is added before a
/// product is written: B is asked for while the product is made. However many rows have a pair, its A is read from
/// memory once, and so is its B by each thread that has rows with it: rows are worked on tile by tile, so what is read
/// again is in the cache.
pub fn matmul(
    cpu: &Cpu,
    x: &Activations,
    num_rows: usize,
    targets: &mut [MatmulTarget<'_>],
    scratch: &mut LoraScratch,
) -> Result<(), KernelError> {
    const OP: &str = "matmul";
    check_limit(OP, "num_rows", x.max_rows(), num_rows)?;
    for target in &*targets {
        check_matrix(OP, x, num_rows, target.matrix, target.out)?;
        check_runs(OP, x, num_rows, target.matrix.out_features(), target.runs)?;
    }
    if num_rows == 0 {
        return Ok(());
    }
    for targets in targets.chunks_mut(TARGETS_PER_DISPATCH) {
        let mut modules: [&[LoraRun<'_>]; TARGETS_PER_DISPATCH] = [&[]; TARGETS_PER_DISPATCH];
        for (module, target) in modules.iter_mut().zip(&*targets) {
            *module = target.runs;
        }
        let is_adapted = modules.iter().any(|runs| runs.iter().any(|run| run.num_rows > 0));
        if is_adapted {
            scratch.shrink(cpu, x, num_rows, &modules[..targets.len()]);
        }
        let mut products = [None; TARGETS_PER_DISPATCH];
        for (at, (product, target)) in products.iter_mut().zip(targets).enumerate() {
            let expand = is_adapted.then(|| scratch.expand(num_rows, at, target.runs));
            let (out, out_features) = (SharedMut::new(target.out), target.matrix.out_features());
            let out = Output { out, out_features, mode: target.mode, expand, best: None };
            *product = Some(Product { matrix: target.matrix, out });
        }
        dispatch(cpu, x, num_rows, &products);
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

/// Runs up to [`TARGETS_PER_DISPATCH`] products.
pub(crate) fn dispatch<'a>(cpu: &Cpu, x: &'a Activations, num_rows: usize, products: &[Option<Product<'a>>]) {
    let num_tiles: usize = products.iter().flatten().map(|product| product.matrix.num_tiles()).sum();
    let cut = Cut::new(cpu, num_tiles, num_rows);
    let mut num_chunks = 0;
    let mut parts = [const { None }; TARGETS_PER_DISPATCH];
    for (part, product) in parts.iter_mut().zip(products.iter().flatten()) {
        *part = Some(Part { matrix: product.matrix, out: product.out, first_chunk: num_chunks });
        num_chunks += product.matrix.num_tiles().div_ceil(cut.tiles_per_chunk);
    }
    let chunks_per_pass = num_chunks;
    let matmul = Matmul { x, num_rows, parts, cut, chunks_per_pass };
    let num_chunks = chunks_per_pass * num_rows.div_ceil(cut.rows_per_chunk);
    cpu.launch(num_chunks, &matmul);
}

/// How a dispatch is cut into chunks.
#[derive(Clone, Copy)]
pub(crate) struct Cut {
    pub(crate) tiles_per_chunk: usize,
    rows_per_chunk: usize,
    /// Whether the rows of a chunk are all that a thread has.
    is_whole_part: bool,
}

impl Cut {
    /// For so many tiles of all targets together. With rows enough for whole panels each thread has rows of its own,
    /// and with few rows tiles of its own.
    pub(crate) fn new(cpu: &Cpu, num_tiles: usize, num_rows: usize) -> Cut {
        let num_parts = cpu.num_threads().min(MOST_PARTS).min(num_rows / PANEL_ROWS).max(1);
        let rows_per_part = num_rows.div_ceil(num_parts).next_multiple_of(PANEL_ROWS);
        let rows_per_chunk = rows_per_part.min(MOST_ROWS_PER_CHUNK);
        let num_passes = num_rows.div_ceil(rows_per_chunk);
        let tiles_per_chunk = num_tiles * num_passes / (cpu.num_threads() * CHUNKS_PER_THREAD);
        Cut {
            tiles_per_chunk: tiles_per_chunk.clamp(1, num_tiles.max(1)),
            rows_per_chunk,
            is_whole_part: rows_per_chunk == rows_per_part,
        }
    }
}

struct Matmul<'a> {
    x: &'a Activations,
    num_rows: usize,
    parts: [Option<Part<'a>>; TARGETS_PER_DISPATCH],
    cut: Cut,
    /// Chunks that have the same rows.
    chunks_per_pass: usize,
}

/// A target and the number of its first chunk in a pass.
struct Part<'a> {
    matrix: &'a Matrix,
    out: Output<'a>,
    first_chunk: usize,
}

/// Tiles of a target and rows that make a chunk.
#[derive(Clone, Copy)]
struct Piece {
    first_tile: usize,
    num_tiles: usize,
    first_row: usize,
    num_rows: usize,
}

impl Kernel for Matmul<'_> {
    #[inline(always)]
    fn run_chunk<S: Simd>(&self, s: S, chunk: usize) {
        // All tiles with the first rows come before any with the next.
        let (pass, chunk) = (chunk / self.chunks_per_pass, chunk % self.chunks_per_pass);
        let Some(part) = self.parts.iter().flatten().rev().find(|part| part.first_chunk <= chunk) else { return };
        let Cut { tiles_per_chunk, rows_per_chunk, .. } = self.cut;
        let (first_tile, first_row) = ((chunk - part.first_chunk) * tiles_per_chunk, pass * rows_per_chunk);
        let num_tiles = tiles_per_chunk.min(part.matrix.num_tiles() - first_tile);
        let num_rows = rows_per_chunk.min(self.num_rows - first_row);
        self.run_piece(s, part, Piece { first_tile, num_tiles, first_row, num_rows });
    }
}

impl Matmul<'_> {
    #[inline(always)]
    fn run_piece<S: Simd>(&self, s: S, part: &Part<'_>, piece: Piece) {
        match part.matrix.tiles() {
            Tiles::NibbleScale(weights) => self.quantized::<S, Nibbles, Around8, Scale>(s, part, weights, piece),
            Tiles::NibbleMin(weights) => self.quantized::<S, Nibbles, Plain, ScaleMin>(s, part, weights, piece),
            Tiles::NibbleK32(weights) => self.quantized::<S, Nibbles, Plain, K32>(s, part, weights, piece),
            Tiles::ByteScale(weights) => self.quantized::<S, Bytes, Signed, Scale>(s, part, weights, piece),
            Tiles::ByteMin(weights) => self.quantized::<S, Bytes, Plain, ScaleMin>(s, part, weights, piece),
            Tiles::ByteK32(weights) => self.quantized::<S, Bytes, Plain, K32>(s, part, weights, piece),
            Tiles::ByteK16(weights) => self.quantized::<S, Bytes, SignedHalves, K16>(s, part, weights, piece),
            Tiles::F16(weights) => self.float::<S, F16>(s, part, weights, piece),
            Tiles::BF16(weights) => self.float::<S, BF16>(s, part, weights, piece),
            Tiles::F32(weights) => self.float::<S, F32>(s, part, weights, piece),
        }
    }

    #[inline(always)]
    fn quantized<S: Simd, W: Weights, D: Dot, F: Factors>(
        &self,
        s: S,
        part: &Part<'_>,
        weights: &Quantized<F::Stored>,
        piece: Piece,
    ) {
        s.call(QuantizedTiles::<W, D, F> {
            weights,
            first_tile: piece.first_tile,
            num_tiles: piece.num_tiles,
            x: self.x,
            first_row: piece.first_row,
            num_rows: piece.num_rows,
            others_follow: self.cut.is_whole_part,
            out: part.out,
            format: PhantomData,
        });
    }

    #[inline(always)]
    fn float<S: Simd, W: FloatWeights>(&self, s: S, part: &Part<'_>, weights: &[W::Stored], piece: Piece) {
        s.call(FloatTiles::<W> {
            weights,
            first_tile: piece.first_tile,
            num_tiles: piece.num_tiles,
            x: self.x,
            first_row: piece.first_row,
            num_rows: piece.num_rows,
            out: part.out,
            format: PhantomData,
        });
    }
}
