//! Turns a step's adapter runs into what the kernels take: LoRA runs per matrix, and norm weights per row.

use std::ops::Range;

use souk_kernels::KernelError;
use souk_kernels::OutputMode;
use souk_kernels::cpu::ops::{LoraScratch, MatmulTarget};
use souk_kernels::cpu::{Activations, Cpu, Matrix, ops};
use souk_kernels::cpu::{LoraPair, LoraRun};
use souk_runner::{AdapterRun, DeviceAdapter, RunnerError};

use super::layout::HeadRows;
use super::recycle::recycle;
use crate::adapter::{LayerAdapter, PackedAdapter};

/// Most matrices that share an input: queries, keys and values.
const MAX_TARGETS: usize = 3;

/// Vectors that are filled several times in each step and keep their memory.
#[derive(Default)]
pub(super) struct AdapterMemory {
    runs: Vec<PackedRun<'static>>,
    adapters: Vec<(&'static PackedAdapter, f32)>,
    lists: [Vec<LoraRun<'static>>; MAX_TARGETS],
    overrides: Vec<(usize, &'static [f32])>,
    blended: Vec<f32>,
}

/// A run, and which of a step's adapters are its.
struct PackedRun<'a> {
    run: &'a AdapterRun,
    adapters: Range<usize>,
}

/// The adapters of one step.
pub(super) struct AdapterRuns<'a> {
    runs: Vec<PackedRun<'a>>,
    /// Of all runs, one after another, with their weights.
    adapters: Vec<(&'a PackedAdapter, f32)>,
    lists: [Vec<LoraRun<'a>>; MAX_TARGETS],
    overrides: Vec<(usize, &'static [f32])>,
    blended: Vec<f32>,
    scratch: &'a mut LoraScratch,
}

/// Chooses the pair that acts on one of a layer's matrices.
pub(super) type PairOf = fn(&LayerAdapter) -> Option<&LoraPair>;

/// A matrix, which pair of an adapter acts on it, and where the outputs go.
pub(super) struct AdaptedOutput<'b> {
    pub(super) matrix: &'b Matrix,
    pub(super) pair: PairOf,
    pub(super) out: &'b mut [f32],
    pub(super) mode: OutputMode,
}

impl<'a> AdapterRuns<'a> {
    /// Finds the adapters of all runs, for a model of `num_layers` layers.
    ///
    /// # Errors
    /// [`RunnerError`] if one does not lie on the CPU or has another number of layers.
    pub(super) fn new(
        runs: &'a [AdapterRun],
        num_layers: usize,
        memory: &mut AdapterMemory,
        scratch: &'a mut LoraScratch,
    ) -> Result<Self, RunnerError> {
        let memory = std::mem::take(memory);
        let mut found = Self {
            runs: recycle(memory.runs),
            adapters: recycle(memory.adapters),
            lists: memory.lists.map(recycle),
            overrides: memory.overrides,
            blended: memory.blended,
            scratch,
        };
        for run in runs {
            let first = found.adapters.len();
            for (adapter, weight) in run.adapters.iter() {
                found.adapters.push((packed(adapter, num_layers)?, *weight));
            }
            found.runs.push(PackedRun { run, adapters: first..found.adapters.len() });
        }
        Ok(found)
    }

    /// Gives the memory back for the next step.
    pub(super) fn into_memory(self) -> AdapterMemory {
        AdapterMemory {
            runs: recycle(self.runs),
            adapters: recycle(self.adapters),
            lists: self.lists.map(recycle),
            overrides: self.overrides,
            blended: self.blended,
        }
    }

    /// Multiplies matrices by the input `x` that they share, and adds what the adapters give.
    pub(super) fn matmul<const N: usize>(
        &mut self,
        cpu: &Cpu,
        layer: usize,
        x: &Activations,
        num_rows: usize,
        outputs: [AdaptedOutput<'_>; N],
    ) -> Result<(), KernelError> {
        const { assert!(N <= MAX_TARGETS) };
        for (list, output) in self.lists.iter_mut().zip(&outputs) {
            let pair = output.pair;
            list_runs(&self.runs, &self.adapters, list, rows_of, |adapter| pair(&adapter.layers[layer]));
        }
        let mut lists = self.lists.iter();
        let mut targets = outputs.map(|AdaptedOutput { matrix, out, mode, .. }| MatmulTarget {
            matrix,
            out,
            mode,
            runs: lists.next().map_or(&[], Vec::as_slice),
        });
        ops::matmul(cpu, x, num_rows, &mut targets, self.scratch)
    }

    /// Bytes of the pairs that the step reads for a matrix of a layer.
    pub(super) fn pair_bytes(&self, layer: usize, pair: PairOf) -> f64 {
        let adapters = self.adapters.iter();
        adapters.filter_map(|(adapter, _)| pair(&adapter.layers[layer])).map(|pair| pair.size_bytes() as f64).sum()
    }

    /// The runs on the head's rows.
    pub(super) fn on_head(&mut self, head: HeadRows<'_>) -> &[LoraRun<'a>] {
        let list = &mut self.lists[0];
        list_runs(&self.runs, &self.adapters, list, |run| head.of_run(run), |adapter| adapter.lm_head.as_ref());
        list
    }

    /// Calls `then` with the norm weights of the rows whose adapters replace `base`, in row order. `rows` says which
    /// rows of the output an adapter run covers. A weight w below or above 1 moves that far from the base to the
    /// adapter's weights, and several adapters add their moves up.
    pub(super) fn with_norm<T, Rows: Iterator<Item = Range<usize>>>(
        &mut self,
        base: &[f32],
        rows: impl Fn(&AdapterRun) -> Rows,
        norm: impl Fn(&PackedAdapter) -> Option<&Vec<f32>>,
        then: impl FnOnce(&[(usize, &[f32])]) -> T,
    ) -> T {
        self.blended.clear();
        for run in &self.runs {
            let adapters = &self.adapters[run.adapters.clone()];
            if let NormOfRun::Blended = norm_of(adapters, &norm) {
                blend(adapters, base, &norm, &mut self.blended);
            }
        }
        let mut overrides: Vec<(usize, &[f32])> = recycle(std::mem::take(&mut self.overrides));
        let mut blended = self.blended.chunks_exact(base.len().max(1));
        for run in &self.runs {
            let weights = match norm_of(&self.adapters[run.adapters.clone()], &norm) {
                NormOfRun::Base => continue,
                NormOfRun::Replaced(weights) => weights,
                NormOfRun::Blended => blended.next().expect("the loop above blended one vector for each such run"),
            };
            overrides.extend(rows(run.run).flatten().map(|row| (row, weights)));
        }
        overrides.sort_unstable_by_key(|(row, _)| *row);
        let result = then(&overrides);
        self.overrides = recycle(overrides);
        result
    }
}

/// What an adapter is on the CPU.
fn packed(adapter: &DeviceAdapter, num_layers: usize) -> Result<&PackedAdapter, RunnerError> {
    let digest = adapter.digest;
    let Some(packed) = adapter.slabs::<PackedAdapter>() else {
        return Err(RunnerError(format!("adapter {digest} does not lie in the memory of the CPU")));
    };
    match packed.layers.len() {
        given if given == num_layers => Ok(packed),
        given => Err(RunnerError(format!("adapter {digest} has {given} layers and the model {num_layers}"))),
    }
}

/// Fills `list` with the pairs that act on each run of rows.
fn list_runs<'a, Rows: Iterator<Item = Range<usize>>>(
    runs: &[PackedRun<'a>],
    adapters: &[(&'a PackedAdapter, f32)],
    list: &mut Vec<LoraRun<'a>>,
    rows: impl Fn(&AdapterRun) -> Rows,
    pair: impl Fn(&'a PackedAdapter) -> Option<&'a LoraPair>,
) {
    list.clear();
    for run in runs {
        for rows in rows(run.run).filter(|rows| !rows.is_empty()) {
            for (adapter, weight) in &adapters[run.adapters.clone()] {
                if let Some(pair) = pair(adapter) {
                    list.push(LoraRun { first_row: rows.start, num_rows: rows.len(), pair, weight: *weight });
                }
            }
        }
    }
}

/// All rows of a run.
pub(super) fn rows_of(run: &AdapterRun) -> std::iter::Once<Range<usize>> {
    std::iter::once(run.first_row..run.first_row + run.num_rows)
}

/// Where the norm weights of a run's rows come from.
enum NormOfRun<'a> {
    /// No adapter of the run replaces them.
    Base,
    /// One adapter in full.
    Replaced(&'a [f32]),
    /// Several adapters, or a part of one.
    Blended,
}

fn norm_of<'a>(
    adapters: &[(&'a PackedAdapter, f32)],
    norm: impl Fn(&'a PackedAdapter) -> Option<&'a Vec<f32>>,
) -> NormOfRun<'a> {
    let mut replacing = adapters.iter().filter_map(|(adapter, weight)| Some((norm(adapter)?, *weight)));
    match (replacing.next(), replacing.next()) {
        (None, _) => NormOfRun::Base,
        (Some((weights, 1.0)), None) => NormOfRun::Replaced(weights),
        _ => NormOfRun::Blended,
    }
}

/// Appends base + sum of weight * (adapter's - base).
fn blend(
    adapters: &[(&PackedAdapter, f32)],
    base: &[f32],
    norm: impl Fn(&PackedAdapter) -> Option<&Vec<f32>>,
    blended: &mut Vec<f32>,
) {
    let first = blended.len();
    blended.extend_from_slice(base);
    for (adapter, weight) in adapters {
        let Some(weights) = norm(adapter) else { continue };
        for ((value, base), replacement) in blended[first..].iter_mut().zip(base).zip(weights) {
            *value += weight * (replacement - base);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use souk_protocol::Digest;

    use super::*;

    fn run(first_row: usize, num_rows: usize, norms: &[(Option<[f32; 2]>, f32)]) -> AdapterRun {
        let adapter = |(norm, weight): &(Option<[f32; 2]>, f32)| {
            let mut adapter = PackedAdapter::empty(Digest::of(b"test"), 0);
            adapter.final_norm = norm.map(Vec::from);
            (Arc::new(Arc::new(adapter).on_cpu()), *weight)
        };
        AdapterRun { first_row, num_rows, adapters: norms.iter().map(adapter).collect() }
    }

    #[test]
    fn norm_weights_are_the_bases_an_adapters_or_a_blend_by_run() {
        let runs = [
            run(0, 1, &[(None, 1.0)]),
            run(1, 2, &[(Some([5.0, 6.0]), 1.0)]),
            run(4, 1, &[(Some([3.0, 3.0]), 0.5), (None, 1.0), (Some([1.0, 4.0]), 2.0)]),
            run(5, 1, &[(Some([3.0, 3.0]), 0.0)]),
        ];
        let mut scratch = LoraScratch::default();
        let mut adapters = AdapterRuns::new(&runs, 0, &mut AdapterMemory::default(), &mut scratch).unwrap();
        let expected: [(usize, &[f32]); 4] = [(1, &[5.0, 6.0]), (2, &[5.0, 6.0]), (4, &[2.0, 6.5]), (5, &[1.0, 2.0])];
        for _ in 0..2 {
            adapters.with_norm(
                &[1.0, 2.0],
                rows_of,
                |adapter| adapter.final_norm.as_ref(),
                |overrides| assert_eq!(overrides, expected),
            );
        }
    }

    #[test]
    fn an_adapter_of_another_device_or_base_is_refused_and_named() {
        let digest = Digest::of(b"test");
        let elsewhere = DeviceAdapter::new(digest, 0, Vec::new(), Arc::new("slabs of another device"));
        let deeper = Arc::new(PackedAdapter::empty(digest, 2)).on_cpu();
        for (adapter, expected) in [(elsewhere, "memory of the CPU"), (deeper, "2 layers and the model 1")] {
            let runs = [AdapterRun { first_row: 0, num_rows: 1, adapters: Arc::new([(Arc::new(adapter), 1.0)]) }];
            let error = AdapterRuns::new(&runs, 1, &mut AdapterMemory::default(), &mut LoraScratch::default()).err();
            let error = error.expect(expected).to_string();
            assert!(error.contains(expected) && error.contains(&digest.to_string()), "{error}");
        }
    }
}
