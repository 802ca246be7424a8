//! Products of base matrices together with what adapters add to them.

use crate::KernelError;
use crate::activations::Activations;
use crate::cpu::Cpu;
use crate::error::check_limit;
use crate::lanes::lora::{Module, Shrink};
use crate::lanes::matmul_quantized::Output;
use crate::matrix::Matrix;
use crate::ops::OutputMode;
use crate::ops::lora::{LoraRun, LoraScratch, MODULES_PER_PLAN, check_runs};
use crate::ops::matmul::{Product, check_matrix, dispatch};
use crate::shared::SharedMut;

/// A matrix, the adapters that act on it, and where the sum goes.
pub struct AdaptedTarget<'a> {
    /// `[out_features, in_features]`.
    pub matrix: &'a Matrix,
    /// `num_rows * out_features` values, row-major; replaced.
    pub out: &'a mut [f32],
    /// Where several runs cover a row, they add up in this order.
    pub runs: &'a [LoraRun<'a>],
}

/// `out = W x` and then [`lora`](super::lora) on it, bit for bit, for the first `num_rows` rows of `x` and every target.
///
/// All shrinks run beside the base products, so that reading the adapters, which waits for memory, overlaps with the
/// products, which calculate; all expands of a depth share the dispatch after it.
pub fn adapted_matmul(
    cpu: &Cpu,
    x: &Activations,
    num_rows: usize,
    targets: &mut [AdaptedTarget<'_>],
    scratch: &mut LoraScratch,
) -> Result<(), KernelError> {
    const OP: &str = "adapted_matmul";
    check_limit(OP, "num_rows", x.max_rows(), num_rows)?;
    for target in &*targets {
        check_matrix(OP, x, num_rows, target.matrix, target.out)?;
        check_runs(OP, x, num_rows, target.matrix.out_features(), target.runs)?;
    }
    if num_rows == 0 {
        return Ok(());
    }
    for targets in targets.chunks_mut(MODULES_PER_PLAN) {
        let mut modules = [Module::EMPTY; MODULES_PER_PLAN];
        let mut products = [None; MODULES_PER_PLAN];
        for ((module, product), target) in modules.iter_mut().zip(&mut products).zip(targets) {
            let (matrix, out, runs) = (target.matrix, SharedMut::new(target.out), target.runs);
            let out_features = matrix.out_features();
            *module = Module { runs, out, out_features };
            let out = Output { out, out_features, mode: OutputMode::Overwrite, best: None };
            *product = Some(Product { matrix, out });
        }
        if modules.iter().all(Module::is_idle) {
            dispatch(cpu, x, num_rows, &products, None);
            continue;
        }
        scratch.prepare(cpu, num_rows, &modules);
        let shrink = Shrink::new(cpu, x, &modules, &scratch.plan, &mut scratch.shrunk);
        dispatch(cpu, x, num_rows, &products, Some(&shrink));
        scratch.expand(cpu, &modules);
    }
    Ok(())
}
