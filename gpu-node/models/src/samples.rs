//! A base model of two layers and the files of adapters for it, for tests.

#![expect(clippy::unwrap_used, reason = "a sample that cannot be made fails the test that wants it")]

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use souk_kernels::WeightType;
use souk_kernels::cpu::Matrix;
use souk_protocol::{BaseModel, Digest, LlamaShape, TokenizerSpec};

use crate::base::{LayerWeights, LlamaWeights};

/// A shape in which every width differs.
pub const SHAPE: LlamaShape = LlamaShape {
    num_layers: 2,
    hidden_size: 12,
    intermediate_size: 20,
    num_heads: 4,
    num_kv_heads: 2,
    head_dim: 4,
    vocab_size: 24,
    context_length: 64,
    rope_theta: 10_000.0,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
};

/// The model that has it.
#[must_use]
pub fn base() -> BaseModel {
    BaseModel {
        id: "tiny".to_owned(),
        digest: Digest::of(b"tiny"),
        aliases: Vec::new(),
        shape: SHAPE,
        tokenizer: TokenizerSpec::TokenizerJson("{}".to_owned()),
        chat_template: None,
        eos_tokens: vec![0],
        bos_token: None,
        add_bos: false,
        pad_token: None,
    }
}

/// Numbers between -1 and 1 that follow from `seed`.
#[must_use]
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The rows of the base's matrix with this seed, in f32.
#[must_use]
pub fn matrix_numbers(seed: u64, out_features: usize, in_features: usize) -> Vec<f32> {
    numbers(1000 + seed, out_features * in_features)
}

/// Weights in f32; the matrix of layer `l` and index `m` (q, k, v, o, gate, up, down) has the seed `10 * l + m`.
#[must_use]
pub fn weights() -> LlamaWeights {
    let matrix = |seed: u64, height: usize, width: usize| {
        let bytes: Vec<u8> = matrix_numbers(seed, height, width).iter().flat_map(|x| x.to_le_bytes()).collect();
        Matrix::pack(WeightType::F32, height, width, &bytes, None).unwrap()
    };
    let (hidden, wide) = (SHAPE.hidden_size, SHAPE.intermediate_size);
    let layer = |index: u64| LayerWeights {
        attn_norm: vec![1.0; hidden],
        q: matrix(10 * index, SHAPE.query_size(), hidden),
        k: matrix(10 * index + 1, SHAPE.kv_size(), hidden),
        v: matrix(10 * index + 2, SHAPE.kv_size(), hidden),
        o: matrix(10 * index + 3, hidden, SHAPE.query_size()),
        ffn_norm: vec![1.0; hidden],
        gate: matrix(10 * index + 4, wide, hidden),
        up: matrix(10 * index + 5, wide, hidden),
        down: matrix(10 * index + 6, hidden, wide),
    };
    LlamaWeights {
        shape: SHAPE,
        embedding: matrix(100, SHAPE.vocab_size, hidden),
        layers: vec![layer(0), layer(1)],
        final_norm: vec![1.0; hidden],
        head: None,
    }
}

/// A tensor of an adapter file.
pub struct Tensor {
    /// As the file has it.
    pub name: String,
    /// What its numbers are stored as.
    pub dtype: Dtype,
    /// Sizes, the slowest first.
    pub shape: Vec<usize>,
    /// Its numbers before they are rounded to `dtype`.
    pub values: Vec<f32>,
}

impl Tensor {
    /// A tensor of the module at `path`, with numbers that follow from its name.
    #[must_use]
    pub fn new(path: &str, part: &str, dtype: Dtype, shape: &[usize]) -> Self {
        let name = format!("base_model.model.model.{path}.{part}");
        let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Self { dtype, shape: shape.to_vec(), values: numbers(seed, shape.iter().product()), name }
    }

    fn bytes(&self) -> Vec<u8> {
        match self.dtype {
            Dtype::F16 => self.values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            Dtype::BF16 => self.values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
            _ => self.values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }
}

/// A file as the reference library writes it.
#[must_use]
pub fn weights_file(tensors: &[Tensor]) -> Vec<u8> {
    let bytes: Vec<_> = tensors.iter().map(Tensor::bytes).collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        (tensor.name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}
