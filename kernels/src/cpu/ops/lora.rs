//! Grouped LoRA: every row of a product with its own list of adapters.

use crate::cpu::activations::Activations;
use crate::cpu::backend::Cpu;
use crate::cpu::lanes::expand::Expand;
use crate::cpu::lanes::shrink::Shrink;
use crate::cpu::pair::LoraRun;
use crate::error::{KernelError, check_equal, check_limit};
use crate::runs::LoraPlan;

/// Work space of products with adapters; grows to what the largest op needed and is then used again.
#[derive(Default)]
pub struct LoraScratch {
    plan: LoraPlan,
    shrunk: Vec<f32>,
}

/// Checks the runs of one module.
pub(crate) fn check_runs(
    op: &'static str,
    x: &Activations,
    num_rows: usize,
    out_features: usize,
    runs: &[LoraRun<'_>],
) -> Result<(), KernelError> {
    for run in runs {
        check_limit(op, "end of a run", num_rows, run.first_row.saturating_add(run.num_rows))?;
        check_equal(op, "in_features of a pair", x.cols(), run.pair.in_features())?;
        check_equal(op, "out_features of a pair", out_features, run.pair.out_features())?;
    }
    Ok(())
}

impl LoraScratch {
    /// Without memory; grows with the first step and keeps what it has grown to.
    pub fn new() -> LoraScratch {
        LoraScratch::default()
    }

    /// Bytes of memory that it holds.
    pub fn size_bytes(&self) -> usize {
        self.plan.size_bytes() + self.shrunk.capacity() * size_of::<f32>()
    }

    /// Makes `A x` of all runs of some modules, in one dispatch. What the products of these modules have to add is then
    /// [`Self::expand`].
    pub(crate) fn shrink(&mut self, cpu: &Cpu, x: &Activations, num_rows: usize, modules: &[&[LoraRun<'_>]]) {
        let num_shrunk = self.plan.lay_out(num_rows, modules);
        if self.shrunk.len() < num_shrunk {
            self.shrunk.resize(num_shrunk, 0.0);
        }
        let shrink = Shrink::new(cpu, x, modules, &self.plan, &mut self.shrunk);
        cpu.launch(shrink.num_chunks(), &shrink);
    }

    /// What the runs of a module add to its product, after [`Self::shrink`] with the same rows and runs.
    pub(crate) fn expand<'a>(&'a self, num_rows: usize, module: usize, runs: &'a [LoraRun<'a>]) -> Expand<'a> {
        let row_starts = &self.plan.row_starts[module * (num_rows + 1)..][..num_rows + 1];
        Expand { runs, row_starts, entries: &self.plan.entries, shrunk: &self.shrunk }
    }
}
