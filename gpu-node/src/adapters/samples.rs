//! A base model of two layers and adapters for it, for tests.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use souk_kernels::{Matrix, WeightType};
use souk_protocol::{AdapterManifest, BaseModel, Digest, FileEntry, LlamaShape, TokenizerSpec};
use tokio::sync::Semaphore;

use super::source::{AdapterFiles, AdapterSource, SourceError};
use crate::base::{LayerWeights, LlamaWeights};
use crate::memory::{DeviceMemory, PAGE_BYTES};

/// A pool with more room for adapters than any test needs.
pub(crate) fn ample_memory() -> DeviceMemory {
    DeviceMemory::split(PAGE_BYTES, 1 << 30).expect("either side has pages")
}

/// A shape in which every width differs.
pub(crate) const SHAPE: LlamaShape = LlamaShape {
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

pub(crate) fn base() -> BaseModel {
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
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The rows of the base's matrix with this seed, in f32.
pub(crate) fn matrix_numbers(seed: u64, out_features: usize, in_features: usize) -> Vec<f32> {
    numbers(1000 + seed, out_features * in_features)
}

/// Weights in f32; the matrix of layer `l` and index `m` (q, k, v, o, gate, up, down) has the seed `10 * l + m`.
pub(crate) fn weights() -> LlamaWeights {
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
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Tensor {
    /// A tensor of the module at `path`, with numbers that follow from its name.
    pub(crate) fn new(path: &str, part: &str, dtype: Dtype, shape: &[usize]) -> Self {
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
pub(crate) fn weights_file(tensors: &[Tensor]) -> Vec<u8> {
    let bytes: Vec<_> = tensors.iter().map(Tensor::bytes).collect();
    let views = tensors.iter().zip(&bytes).map(|(tensor, bytes)| {
        (tensor.name.as_str(), TensorView::new(tensor.dtype, tensor.shape.clone(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// An adapter on `v_proj` of both layers. Its packed size grows with the rank: see [`SIZE_PER_RANK`].
pub(crate) fn adapter_files(rank: usize, changes: &Value) -> AdapterFiles {
    let paths = [0, 1].map(|layer| format!("layers.{layer}.self_attn.v_proj"));
    let tensors: Vec<_> = paths
        .iter()
        .flat_map(|path| {
            [
                Tensor::new(path, "lora_A.weight", Dtype::F32, &[rank, SHAPE.hidden_size]),
                Tensor::new(path, "lora_B.weight", Dtype::F32, &[SHAPE.kv_size(), rank]),
            ]
        })
        .collect();
    let mut config = json!({"peft_type": "LORA", "r": rank, "target_modules": ["v_proj"]});
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    files_of(config.to_string().into_bytes(), weights_file(&tensors), Digest::of(b"tiny"))
}

/// Packed bytes for each rank of [`adapter_files`]: in both layers one row of A and one column of B, each one vector
/// of 16 halves.
pub(crate) const SIZE_PER_RANK: usize = 2 * 2 * 32;

/// Files with the manifest that fits them.
pub(crate) fn files_of(config: Vec<u8>, weights: Vec<u8>, base: Digest) -> AdapterFiles {
    let entry = |bytes: &[u8]| FileEntry { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 };
    AdapterFiles { manifest: AdapterManifest::new(base, entry(&config), entry(&weights)), config, weights }
}

/// A source in memory that counts fetches and lets them through one permit at a time.
pub(crate) struct GatedSource {
    files: HashMap<Digest, AdapterFiles>,
    pub(crate) gate: Semaphore,
    pub(crate) num_fetches: AtomicUsize,
}

impl GatedSource {
    /// A source of these adapters, and their digests. Its gate is open for `num_open` fetches.
    pub(crate) fn new(adapters: impl IntoIterator<Item = AdapterFiles>, num_open: usize) -> (Arc<Self>, Vec<Digest>) {
        let adapters: Vec<_> = adapters.into_iter().map(|files| (files.manifest.digest(), files)).collect();
        let digests = adapters.iter().map(|(digest, _)| *digest).collect();
        let (gate, num_fetches) = (Semaphore::new(num_open), AtomicUsize::new(0));
        (Arc::new(Self { files: adapters.into_iter().collect(), gate, num_fetches }), digests)
    }

    pub(crate) fn num_fetches(&self) -> usize {
        self.num_fetches.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl AdapterSource for GatedSource {
    async fn fetch(&self, digest: &Digest, _max_weights_bytes: u64) -> Result<AdapterFiles, SourceError> {
        self.num_fetches.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.expect("the gate is never closed").forget();
        self.files.get(digest).cloned().ok_or(SourceError::NotFound(*digest))
    }
}
