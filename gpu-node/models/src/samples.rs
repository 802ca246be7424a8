//! A base model's weights without files, for tests.

#![expect(clippy::unwrap_used, reason = "a sample that cannot be made fails the test that wants it")]

use souk_kernels::WeightType;
use souk_kernels::cpu::Matrix;
use souk_protocol::LlamaShape;

use crate::base::{LayerWeights, LlamaWeights};

/// Weights in f32 of a model whose head is its embedding. `numbers` gives a matrix's, by its seed and their count: the
/// matrix of layer `l` and index `m` (q, k, v, o, gate, up, down) has the seed `10 * l + m`, the embedding 100.
#[must_use]
pub fn weights(shape: LlamaShape, numbers: impl Fn(u64, usize) -> Vec<f32>) -> LlamaWeights {
    let matrix = |seed: u64, height: usize, width: usize| {
        let bytes: Vec<u8> = numbers(seed, height * width).iter().flat_map(|x| x.to_le_bytes()).collect();
        Matrix::pack(WeightType::F32, height, width, &bytes, None).unwrap()
    };
    let (hidden, wide) = (shape.hidden_size, shape.intermediate_size);
    let layer = |index: u64| LayerWeights {
        attn_norm: vec![1.0; hidden],
        q: matrix(10 * index, shape.query_size(), hidden),
        k: matrix(10 * index + 1, shape.kv_size(), hidden),
        v: matrix(10 * index + 2, shape.kv_size(), hidden),
        o: matrix(10 * index + 3, hidden, shape.query_size()),
        ffn_norm: vec![1.0; hidden],
        gate: matrix(10 * index + 4, wide, hidden),
        up: matrix(10 * index + 5, wide, hidden),
        down: matrix(10 * index + 6, hidden, wide),
    };
    LlamaWeights {
        shape,
        embedding: matrix(100, shape.vocab_size, hidden),
        layers: (0..shape.num_layers as u64).map(layer).collect(),
        final_norm: vec![1.0; hidden],
        head: None,
    }
}
