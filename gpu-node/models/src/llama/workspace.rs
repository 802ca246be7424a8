//! The buffers of a forward pass, allocated once for the largest step.

use souk_kernels::cpu::ops::{AttentionScratch, HeadScratch};
use souk_kernels::cpu::{Activations, FloatBuffer};
use souk_protocol::LlamaShape;

/// Rows are adjacent and as wide as the comment says; only the first rows of a step are in use.
pub(super) struct Workspace {
    /// The residual stream, `hidden_size`.
    pub(super) hidden: FloatBuffer,
    /// The residual stream after a norm, `hidden_size`.
    pub(super) normed: Activations,
    /// Queries, `query_size`.
    pub(super) q: FloatBuffer,
    /// Keys, `kv_size`.
    pub(super) k: FloatBuffer,
    /// Values, `kv_size`.
    pub(super) v: FloatBuffer,
    /// What attention gathered, `query_size`.
    pub(super) attended: FloatBuffer,
    pub(super) attention_scratch: AttentionScratch,
    /// What attention gathered, quantised for the output projection.
    pub(super) attended_in: Activations,
    /// `intermediate_size`.
    pub(super) gate: FloatBuffer,
    /// `intermediate_size`.
    pub(super) up: FloatBuffer,
    /// silu(gate) * up, `intermediate_size`.
    pub(super) gated: Activations,
    /// Rows that go through the head, after the last norm, `hidden_size`.
    pub(super) head_in: Activations,
    /// `vocab_size`, of the rows whose logits are written.
    pub(super) logits: Vec<f32>,
    pub(super) head_scratch: HeadScratch,
    /// The best tokens of the other rows.
    pub(super) greedy: Vec<Option<u32>>,
}

impl Workspace {
    pub(super) fn new(shape: &LlamaShape, max_rows: usize, max_logit_rows: usize) -> Self {
        let (hidden, query, kv, ffn) =
            (shape.hidden_size, shape.query_size(), shape.kv_size(), shape.intermediate_size);
        let rows = |width: usize| FloatBuffer::new(max_rows * width);
        Self {
            hidden: rows(hidden),
            normed: Activations::new(max_rows, hidden),
            q: rows(query),
            k: rows(kv),
            v: rows(kv),
            attended: rows(query),
            attention_scratch: AttentionScratch::default(),
            attended_in: Activations::new(max_rows, query),
            gate: rows(ffn),
            up: rows(ffn),
            gated: Activations::new(max_rows, ffn),
            head_in: Activations::new(max_logit_rows, hidden),
            logits: vec![0.0; max_logit_rows * shape.vocab_size],
            head_scratch: HeadScratch::default(),
            greedy: vec![None; max_logit_rows],
        }
    }
}
