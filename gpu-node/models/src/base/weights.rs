//! The weights of a llama-family model, packed for the kernels.

use std::fmt;
use std::path::Path;

use souk_kernels::cpu::Matrix;
use souk_protocol::LlamaShape;

use super::BaseError;
use super::tensors::TensorReader;

/// All weights of a model. Rows of `q` and `k` are in Hugging Face order: the two halves of a rotary pair are
/// `head_dim / 2` rows apart.
pub struct LlamaWeights {
    /// Widths, layers and heads.
    pub shape: LlamaShape,
    /// Embedding table, `[vocab_size, hidden_size]`.
    pub embedding: Matrix,
    /// Layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// Weights of the norm before the head.
    pub final_norm: Vec<f32>,
    /// Output head, `[vocab_size, hidden_size]`; `None` if it is the embedding table.
    pub head: Option<Matrix>,
}

/// Weights of one layer. Matrices are `[out_features, in_features]`.
pub struct LayerWeights {
    /// Norm before the attention, `[hidden_size]`.
    pub attn_norm: Vec<f32>,
    /// Projection to the queries of all heads.
    pub q: Matrix,
    /// Projection to the keys of all key-value heads.
    pub k: Matrix,
    /// Projection to the values of all key-value heads.
    pub v: Matrix,
    /// Output of the attention.
    pub o: Matrix,
    /// Norm before the feed-forward layer, `[hidden_size]`.
    pub ffn_norm: Vec<f32>,
    /// Gate of the feed-forward layer.
    pub gate: Matrix,
    /// Other factor of the feed-forward layer.
    pub up: Matrix,
    /// Output of the feed-forward layer.
    pub down: Matrix,
}

impl fmt::Debug for LlamaWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlamaWeights").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl LlamaWeights {
    /// The output head, which may be the embedding table.
    #[must_use]
    pub fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Memory that the weights occupy.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(LayerWeights::size_bytes).sum();
        let head = self.head.as_ref().map_or(0, Matrix::size_bytes);
        self.embedding.size_bytes() + layers + size_of_val(&self.final_norm[..]) + head
    }

    /// Reads every tensor of the architecture and refuses files that have others.
    pub(super) fn read(
        reader: &mut TensorReader<'_>,
        names: &TensorNames,
        shape: LlamaShape,
        row_order: Option<&RowOrder>,
    ) -> Result<Self, BaseError> {
        reader.expect_no_others(|name| names.is_expected(name, shape.num_layers))?;
        let (hidden, vocab) = (shape.hidden_size, shape.vocab_size);
        let layers = (0..shape.num_layers)
            .map(|index| LayerWeights::read(reader, names, &shape, index, row_order))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shape,
            embedding: reader.matrix(names.embedding, vocab, hidden, None)?,
            layers,
            final_norm: reader.vector(names.final_norm, hidden)?,
            head: match shape.tie_word_embeddings {
                // A head beside tied embeddings is a copy of them that some writers leave in the file.
                true => None,
                false => Some(reader.matrix(names.head, vocab, hidden, None)?),
            },
        })
    }
}

impl LayerWeights {
    fn read(
        reader: &mut TensorReader<'_>,
        names: &TensorNames,
        shape: &LlamaShape,
        index: usize,
        row_order: Option<&RowOrder>,
    ) -> Result<Self, BaseError> {
        let (hidden, ffn) = (shape.hidden_size, shape.intermediate_size);
        let (query, kv) = (shape.query_size(), shape.kv_size());
        let name = |part: &str| format!("{}{index}.{part}", names.layer_prefix);
        Ok(Self {
            attn_norm: reader.vector(&name(names.attn_norm), hidden)?,
            q: reader.matrix(&name(names.q), query, hidden, row_order.map(|order| &order.q[..]))?,
            k: reader.matrix(&name(names.k), kv, hidden, row_order.map(|order| &order.k[..]))?,
            v: reader.matrix(&name(names.v), kv, hidden, None)?,
            o: reader.matrix(&name(names.o), hidden, query, None)?,
            ffn_norm: reader.vector(&name(names.ffn_norm), hidden)?,
            gate: reader.matrix(&name(names.gate), ffn, hidden, None)?,
            up: reader.matrix(&name(names.up), ffn, hidden, None)?,
            down: reader.matrix(&name(names.down), hidden, ffn, None)?,
        })
    }

    fn size_bytes(&self) -> usize {
        let matrices = [&self.q, &self.k, &self.v, &self.o, &self.gate, &self.up, &self.down];
        let norms = size_of_val(&self.attn_norm[..]) + size_of_val(&self.ffn_norm[..]);
        matrices.iter().map(|matrix| matrix.size_bytes()).sum::<usize>() + norms
    }
}

/// The rows of `q` and `k` as the file has them: result row `i` is file row `order[i]`.
pub(super) struct RowOrder {
    q: Vec<u32>,
    k: Vec<u32>,
}

impl RowOrder {
    /// The order that undoes the permutation of llama GGUF files, in which the two halves of a rotary pair are
    /// adjacent: Hugging Face row `j * head_dim / 2 + i` of a head is GGUF row `2 * i + j`.
    pub(super) fn of_interleaved_pairs(shape: &LlamaShape) -> Self {
        let half = shape.head_dim / 2;
        let order = |num_heads: usize| {
            let rows = 0..num_heads * shape.head_dim;
            rows.map(|row| {
                let (head, within) = (row / shape.head_dim, row % shape.head_dim);
                (head * shape.head_dim + 2 * (within % half) + within / half) as u32
            })
            .collect()
        };
        Self { q: order(shape.num_heads), k: order(shape.num_kv_heads) }
    }
}

/// How a format names the tensors.
pub(super) struct TensorNames {
    pub(super) embedding: &'static str,
    pub(super) final_norm: &'static str,
    pub(super) head: &'static str,
    /// What stands before a layer's index.
    pub(super) layer_prefix: &'static str,
    pub(super) attn_norm: &'static str,
    pub(super) q: &'static str,
    pub(super) k: &'static str,
    pub(super) v: &'static str,
    pub(super) o: &'static str,
    pub(super) ffn_norm: &'static str,
    pub(super) gate: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    /// Names that are in some files, hold nothing that the shape does not say, and are passed over.
    pub(super) redundant_in_layer: &'static [&'static str],
}

impl TensorNames {
    fn is_expected(&self, name: &str, num_layers: usize) -> bool {
        if [self.embedding, self.final_norm, self.head].contains(&name) {
            return true;
        }
        let Some((index, part)) = name.strip_prefix(self.layer_prefix).and_then(|rest| rest.split_once('.')) else {
            return false;
        };
        let parts = [self.attn_norm, self.q, self.k, self.v, self.o, self.ffn_norm, self.gate, self.up, self.down];
        index.parse().is_ok_and(|index: usize| index < num_layers)
            && (parts.contains(&part) || self.redundant_in_layer.contains(&part))
    }
}

/// Checks that the sizes can be those of a model at all, before anything is computed from them.
pub(super) fn check_shape(path: &Path, shape: &LlamaShape) -> Result<(), BaseError> {
    // Far above any model that fits on one machine, and far below where products of two overflow.
    const MOST: usize = 1 << 24;
    let sizes = [
        ("number of layers", shape.num_layers),
        ("hidden size", shape.hidden_size),
        ("feed-forward size", shape.intermediate_size),
        ("number of heads", shape.num_heads),
        ("number of key-value heads", shape.num_kv_heads),
        ("head size", shape.head_dim),
        ("vocabulary size", shape.vocab_size),
        ("context length", shape.context_length),
    ];
    for (what, size) in sizes {
        if !(1..=MOST).contains(&size) {
            return Err(BaseError::malformed(path, format!("the {what} is {size}; it must be 1 to {MOST}")));
        }
    }
    if !shape.num_heads.is_multiple_of(shape.num_kv_heads) {
        let (heads, kv) = (shape.num_heads, shape.num_kv_heads);
        return Err(BaseError::malformed(path, format!("{kv} key-value heads do not divide {heads} heads")));
    }
    if !shape.head_dim.is_multiple_of(2) {
        let reason = format!("the head size {} is odd; rotary positions need pairs", shape.head_dim);
        return Err(BaseError::malformed(path, reason));
    }
    let numbers = [("rotary base", shape.rope_theta), ("norm epsilon", shape.rms_norm_eps)];
    for (what, number) in numbers {
        if !(number.is_finite() && number > 0.0) {
            return Err(BaseError::malformed(path, format!("the {what} is {number}; it must be positive")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_order_undoes_the_interleaving_of_every_head() {
        let shape = LlamaShape {
            num_layers: 1,
            hidden_size: 8,
            intermediate_size: 8,
            num_heads: 2,
            num_kv_heads: 1,
            head_dim: 6,
            vocab_size: 1,
            context_length: 1,
            rope_theta: 1.0,
            rms_norm_eps: 1.0,
            tie_word_embeddings: true,
        };
        let order = RowOrder::of_interleaved_pairs(&shape);
        assert_eq!(order.k, [0, 2, 4, 1, 3, 5]);
        assert_eq!(order.q, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }
}
