//! The output head: logits where they are asked for, and elsewhere only which one is the largest.

use crate::cpu::activations::Activations;
use crate::cpu::backend::Cpu;
use crate::cpu::lanes::best::{BestOutput, RowBest};
use crate::cpu::lanes::output::Output;
use crate::cpu::matrix::Matrix;
use crate::cpu::ops::lora::{LoraScratch, check_runs};
use crate::cpu::ops::matmul::{Cut, Product, check_matrix, dispatch};
use crate::cpu::pair::LoraRun;
use crate::cpu::shared::SharedMut;
use crate::error::{KernelError, check_limit, check_rows};
use crate::runs::{HeadOutput, OutputMode};

/// Work space of [`head`]; grows to what the largest op needed and is then used again.
#[derive(Default)]
pub struct HeadScratch {
    bests: Vec<RowBest>,
    lora: LoraScratch,
}

/// `W x` and what adapters add to it, as [`matmul`](super::matmul) makes it, for the first `num_rows` rows of `x`.
/// Outputs of rows that only want the best are never written to memory, and the choice is the one that a scan over the
/// written outputs would make.
pub fn head(
    cpu: &Cpu,
    x: &Activations,
    num_rows: usize,
    matrix: &Matrix,
    runs: &[LoraRun<'_>],
    output: HeadOutput<'_>,
    scratch: &mut HeadScratch,
) -> Result<(), KernelError> {
    const OP: &str = "head";
    let HeadOutput { logits, num_written, best } = output;
    check_limit(OP, "num_rows", x.max_rows(), num_rows)?;
    check_limit(OP, "num_written", num_rows, num_written)?;
    check_matrix(OP, x, num_written, matrix, logits)?;
    check_runs(OP, x, num_rows, matrix.out_features(), runs)?;
    let num_best = num_rows - num_written;
    check_rows(OP, "best", num_best, 1, best.len())?;
    if num_rows == 0 {
        return Ok(());
    }
    let expand = runs.iter().any(|run| run.num_rows > 0).then(|| {
        scratch.lora.shrink(cpu, x, num_rows, &[runs]);
        scratch.lora.expand(num_rows, 0, runs)
    });
    let tiles_per_chunk = Cut::new(cpu, matrix.num_tiles(), num_rows).tiles_per_chunk;
    scratch.bests.clear();
    scratch.bests.resize(matrix.num_tiles().div_ceil(tiles_per_chunk) * num_best, RowBest::NONE);
    let bests = SharedMut::new(&mut scratch.bests);
    let kept = BestOutput { first_row: num_written, num_rows: num_best, tiles_per_chunk, bests };
    let out_features = matrix.out_features();
    let (out, mode) = (SharedMut::new(logits), OutputMode::Overwrite);
    let out = Output { out, out_features, mode, expand, best: Some(kept) };
    dispatch(cpu, x, num_rows, &[Some(Product { matrix, out })]);
    for (row, best) in best.iter_mut().take(num_best).enumerate() {
        *best = RowBest::best_of(scratch.bests.iter().skip(row).step_by(num_best));
    }
    Ok(())
}
