//! One pass through the layers.

use souk_kernels::KernelError;
use souk_kernels::cpu::RopeTable;
use souk_kernels::cpu::{Cpu, KvCache, Matrix, ops};
use souk_kernels::{HeadOutput, NormWeights, OutputMode, RowSelection};
use souk_runner::Step;

use super::adapter_runs::{AdaptedOutput, AdapterRuns, PairOf, rows_of};
use super::layout::Layout;
use super::profile::{Laps, OpClass, Work};
use super::workspace::Workspace;
use crate::base::LlamaWeights;

/// What a pass reads and writes.
pub(super) struct Forward<'a, 's> {
    pub(super) cpu: &'a Cpu,
    pub(super) weights: &'a LlamaWeights,
    pub(super) rope: &'a RopeTable,
    pub(super) cache: &'a mut KvCache,
    pub(super) work: &'a mut Workspace,
    pub(super) adapters: &'a mut AdapterRuns<'s>,
    pub(super) step: &'a Step,
    pub(super) layout: &'a Layout<'a>,
    pub(super) laps: Laps<'a>,
}

impl Forward<'_, '_> {
    /// From tokens to logits and best tokens.
    pub(super) fn run(mut self) -> Result<(), KernelError> {
        ops::embed(self.cpu, &self.weights.embedding, &self.step.tokens, &mut self.work.hidden)?;
        self.laps.lap(OpClass::Other, Work::default);
        for layer in 0..self.weights.layers.len() {
            self.attention(layer)?;
            self.feed_forward(layer)?;
        }
        self.head()?;
        self.laps.end();
        Ok(())
    }

    /// hidden += o(attention(rope(qkv(norm(hidden)))))
    fn attention(&mut self, layer: usize) -> Result<(), KernelError> {
        let (cpu, shape, num_rows) = (self.cpu, &self.weights.shape, self.step.tokens.len());
        let weights = &self.weights.layers[layer];
        let work = &mut *self.work;
        self.adapters.with_norm(
            &weights.attn_norm,
            rows_of,
            |adapter| adapter.layers[layer].attn_norm.as_ref(),
            |overrides| {
                let norm = NormWeights { base: &weights.attn_norm, overrides };
                let rows = RowSelection::All(num_rows);
                ops::rms_norm(cpu, &work.hidden, rows, norm, shape.rms_norm_eps, &mut work.normed)
            },
        )?;
        self.laps.lap(OpClass::Norm, Work::default);
        let pairs: [PairOf; 3] = [|layer| layer.q.as_ref(), |layer| layer.k.as_ref(), |layer| layer.v.as_ref()];
        let outputs = [
            AdaptedOutput { matrix: &weights.q, pair: pairs[0], out: &mut work.q, mode: OutputMode::Overwrite },
            AdaptedOutput { matrix: &weights.k, pair: pairs[1], out: &mut work.k, mode: OutputMode::Overwrite },
            AdaptedOutput { matrix: &weights.v, pair: pairs[2], out: &mut work.v, mode: OutputMode::Overwrite },
        ];
        self.adapters.matmul(cpu, layer, &work.normed, num_rows, outputs)?;
        let matrices = [&weights.q, &weights.k, &weights.v];
        self.laps.lap(OpClass::Qkv, || products(num_rows, matrices, self.adapters, layer, &pairs));

        let (positions, slots) = (&self.step.positions, self.layout.slots);
        let (q, k, v) = (&mut work.q, &mut work.k, &work.v);
        ops::rope_store(cpu, self.rope, q, k, v, positions, slots, shape.num_heads, self.cache, layer)?;
        self.laps.lap(OpClass::Rope, Work::default);
        let (spans, attended, scratch) = (&self.layout.spans, &mut work.attended, &mut work.attention_scratch);
        ops::attention(cpu, &work.q, shape.num_heads, self.cache, layer, spans, attended, scratch)?;
        ops::quantize(cpu, &work.attended, num_rows, &mut work.attended_in)?;
        self.laps.lap(OpClass::Attention, || {
            let tokens = self.layout.spans.iter().map(|span| span.first_position + span.num_rows).sum::<usize>();
            // Keys and values, two bytes each.
            Work { bytes: (tokens * shape.kv_size() * 4) as f64, int8_operations: 0.0 }
        });
        self.join(layer, Sublayer::Attention)
    }

    /// hidden += down(silu(gate(norm(hidden))) * up(norm(hidden)))
    fn feed_forward(&mut self, layer: usize) -> Result<(), KernelError> {
        let (cpu, shape, num_rows) = (self.cpu, &self.weights.shape, self.step.tokens.len());
        let weights = &self.weights.layers[layer];
        let work = &mut *self.work;
        self.adapters.with_norm(
            &weights.ffn_norm,
            rows_of,
            |adapter| adapter.layers[layer].ffn_norm.as_ref(),
            |overrides| {
                let norm = NormWeights { base: &weights.ffn_norm, overrides };
                let rows = RowSelection::All(num_rows);
                ops::rms_norm(cpu, &work.hidden, rows, norm, shape.rms_norm_eps, &mut work.normed)
            },
        )?;
        self.laps.lap(OpClass::Norm, Work::default);
        let pairs: [PairOf; 2] = [|layer| layer.gate.as_ref(), |layer| layer.up.as_ref()];
        let outputs = [
            AdaptedOutput { matrix: &weights.gate, pair: pairs[0], out: &mut work.gate, mode: OutputMode::Overwrite },
            AdaptedOutput { matrix: &weights.up, pair: pairs[1], out: &mut work.up, mode: OutputMode::Overwrite },
        ];
        self.adapters.matmul(cpu, layer, &work.normed, num_rows, outputs)?;
        let matrices = [&weights.gate, &weights.up];
        self.laps.lap(OpClass::GateUp, || products(num_rows, matrices, self.adapters, layer, &pairs));
        ops::swiglu(cpu, &work.gate, &work.up, num_rows, &mut work.gated)?;
        self.laps.lap(OpClass::SwiGlu, Work::default);
        self.join(layer, Sublayer::FeedForward)
    }

    /// Adds a sublayer's output to the residual stream, with what adapters add to the output.
    fn join(&mut self, layer: usize, sublayer: Sublayer) -> Result<(), KernelError> {
        let (cpu, num_rows) = (self.cpu, self.step.tokens.len());
        let (weights, work) = (&self.weights.layers[layer], &mut *self.work);
        let (matrix, x, pair, class): (_, _, PairOf, _) = match sublayer {
            Sublayer::Attention => (&weights.o, &work.attended_in, |layer| layer.o.as_ref(), OpClass::Output),
            Sublayer::FeedForward => (&weights.down, &work.gated, |layer| layer.down.as_ref(), OpClass::Down),
        };
        let output = AdaptedOutput { matrix, pair, out: &mut work.hidden, mode: OutputMode::Accumulate };
        self.adapters.matmul(cpu, layer, x, num_rows, [output])?;
        self.laps.lap(class, || products(num_rows, [matrix], self.adapters, layer, &[pair]));
        Ok(())
    }

    /// logits = head(norm(hidden)) of the rows that want them, and the best token of the others.
    fn head(&mut self) -> Result<(), KernelError> {
        let (cpu, shape, head) = (self.cpu, &self.weights.shape, self.layout.head);
        if head.rows.is_empty() {
            return Ok(());
        }
        let work = &mut *self.work;
        self.adapters.with_norm(
            &self.weights.final_norm,
            |run| head.of_run(run),
            |adapter| adapter.final_norm.as_ref(),
            |overrides| {
                let norm = NormWeights { base: &self.weights.final_norm, overrides };
                let rows = RowSelection::Picked(head.rows);
                ops::rms_norm(cpu, &work.hidden, rows, norm, shape.rms_norm_eps, &mut work.head_in)
            },
        )?;
        let num_rows = head.rows.len();
        let output = HeadOutput { logits: &mut work.logits, num_written: head.num_written, best: &mut work.greedy };
        let (matrix, runs) = (self.weights.head(), self.adapters.on_head(head));
        ops::head(cpu, &work.head_in, num_rows, matrix, runs, output, &mut work.head_scratch)?;
        self.laps.lap(OpClass::Head, || Work::products(num_rows, [self.weights.head()]));
        Ok(())
    }
}

/// The two halves of a layer.
#[derive(Clone, Copy)]
enum Sublayer {
    Attention,
    FeedForward,
}

/// What products with adapters need.
fn products<const N: usize>(
    num_rows: usize,
    matrices: [&Matrix; N],
    adapters: &AdapterRuns<'_>,
    layer: usize,
    pairs: &[PairOf; N],
) -> Work {
    let mut work = Work::products(num_rows, matrices);
    work.bytes += pairs.iter().map(|pair| adapters.pair_bytes(layer, *pair)).sum::<f64>();
    work
}
