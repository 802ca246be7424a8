//! Fronts of the ops that fill activations: `rms_norm`, `quantize`, `swiglu`; and `embed`, which fills floats.

use crate::cpu::activations::Activations;
use crate::cpu::backend::Cpu;
use crate::cpu::lanes::rows::{CopyRows, RmsNorm, RowKernel, SwiGlu};
use crate::cpu::matrix::Matrix;
use crate::cpu::shared::SharedMut;
use crate::error::{KernelError, check_equal, check_index, check_limit, check_rows};
use crate::runs::{NormWeights, RowSelection};

/// Row `i` of `out` is `x / sqrt(mean(x^2) + eps) * weight` of the selected row `i` of `x`, as f32 and quantised.
pub fn rms_norm(
    cpu: &Cpu,
    x: &[f32],
    rows: RowSelection<'_>,
    weights: NormWeights<'_>,
    eps: f32,
    out: &mut Activations,
) -> Result<(), KernelError> {
    const OP: &str = "rms_norm";
    let (num_rows, cols) = (rows.num_rows(), out.cols());
    check_limit(OP, "rows", out.max_rows(), num_rows)?;
    check_equal(OP, "base weights", cols, weights.base.len())?;
    for (_, weights) in weights.overrides {
        check_equal(OP, "override weights", cols, weights.len())?;
    }
    if let Some(pair) = weights.overrides.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
        let limit = pair[1].0.saturating_sub(1);
        return Err(KernelError::Limit { op: OP, what: "row of an override before the next", limit, given: pair[0].0 });
    }
    let picked = match rows {
        RowSelection::All(_) => {
            check_rows(OP, "x", num_rows, cols, x.len())?;
            None
        }
        RowSelection::Picked(picked) => {
            let highest = picked.iter().max().map_or(0, |row| *row as usize + 1);
            check_rows(OP, "x", highest, cols, x.len())?;
            Some(picked)
        }
    };
    let op = RmsNorm { x, picked, base: weights.base, overrides: weights.overrides, eps };
    let kernel = RowKernel::new(op, num_rows, out);
    cpu.launch(kernel.num_chunks(), &kernel);
    Ok(())
}

/// Copies the first `num_rows` rows of `x` into `out` and quantises them.
pub fn quantize(cpu: &Cpu, x: &[f32], num_rows: usize, out: &mut Activations) -> Result<(), KernelError> {
    const OP: &str = "quantize";
    check_limit(OP, "num_rows", out.max_rows(), num_rows)?;
    check_rows(OP, "x", num_rows, out.cols(), x.len())?;
    let kernel = RowKernel::new(CopyRows { x }, num_rows, out);
    cpu.launch(kernel.num_chunks(), &kernel);
    Ok(())
}

/// `silu(gate) * up` for the first `num_rows` rows, as f32 and quantised.
pub fn swiglu(cpu: &Cpu, gate: &[f32], up: &[f32], num_rows: usize, out: &mut Activations) -> Result<(), KernelError> {
    const OP: &str = "swiglu";
    check_limit(OP, "num_rows", out.max_rows(), num_rows)?;
    check_rows(OP, "gate", num_rows, out.cols(), gate.len())?;
    check_rows(OP, "up", num_rows, out.cols(), up.len())?;
    let kernel = RowKernel::new(SwiGlu { gate, up }, num_rows, out);
    cpu.launch(kernel.num_chunks(), &kernel);
    Ok(())
}

/// Row `i` of `out` is the dequantised row `tokens[i]` of `table`.
pub fn embed(cpu: &Cpu, table: &Matrix, tokens: &[u32], out: &mut [f32]) -> Result<(), KernelError> {
    const OP: &str = "embed";
    const TOKENS_PER_CHUNK: usize = 16;
    let cols = table.in_features();
    check_rows(OP, "out", tokens.len(), cols, out.len())?;
    if let Some(token) = tokens.iter().max() {
        check_index(OP, "token", table.out_features(), *token as usize)?;
    }
    let out = SharedMut::new(out);
    cpu.parallel(tokens.len().div_ceil(TOKENS_PER_CHUNK), &|chunk| {
        let first = chunk * TOKENS_PER_CHUNK;
        for row in first..(first + TOKENS_PER_CHUNK).min(tokens.len()) {
            // SAFETY: a row belongs to one chunk.
            let out = unsafe { out.part(row * cols, cols) };
            table.dequantize_row(tokens[row] as usize, out);
        }
    });
    Ok(())
}
