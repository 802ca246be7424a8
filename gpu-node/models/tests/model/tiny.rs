//! Small random llama models, written to disk in both formats.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor, gguf_file};
use candle_core::{DType, Device, Tensor};
use serde_json::json;
use souk_kernels::SlabType;
use souk_kernels::cpu::LoraPair;
use souk_models::adapter::PackedAdapter;
use souk_models::base::LlamaWeights;
use souk_protocol::{Digest, LlamaShape};
use souk_runner::DeviceAdapter;

use crate::driver::load;

/// A repeatable stream of numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Evenly spread over -1 to 1.
    pub(crate) fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn vector(&mut self, len: usize, size: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * size).collect()
    }

    pub(crate) fn tokens(&mut self, len: usize, vocab_size: usize) -> Vec<u32> {
        (0..len).map(|_| ((self.next() + 1.0) / 2.0 * vocab_size as f32) as u32 % vocab_size as u32).collect()
    }
}

/// A model in f32 by the names of the Hugging Face format.
pub(crate) struct TinyModel {
    pub(crate) shape: LlamaShape,
    pub(crate) tensors: BTreeMap<String, Tensor>,
}

/// Sizes that are multiples of nothing but what llama needs.
pub(crate) const SMALL: LlamaShape = LlamaShape {
    num_layers: 2,
    hidden_size: 64,
    intermediate_size: 160,
    num_heads: 4,
    num_kv_heads: 2,
    head_dim: 16,
    vocab_size: 128,
    context_length: 512,
    rope_theta: 10_000.0,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: false,
};

/// Sizes that the types with blocks of 256 can have.
pub(crate) const BLOCKY: LlamaShape = LlamaShape { hidden_size: 256, intermediate_size: 512, head_dim: 64, ..SMALL };

impl TinyModel {
    pub(crate) fn random(shape: LlamaShape, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut tensors = BTreeMap::new();
        let mut add = |name: String, dims: &[usize]| {
            let len = dims.iter().product();
            // Norms near one; matrices of a size that keeps the residual stream near one too.
            let values: Vec<f32> = match dims {
                [_] => random.vector(len, 0.2).iter().map(|value| 1.0 + value).collect(),
                _ => random.vector(len, 3.0 / (dims[1] as f32).sqrt()),
            };
            tensors.insert(name, Tensor::from_vec(values, dims, &Device::Cpu).unwrap());
        };
        let (hidden, ffn, query, kv) =
            (shape.hidden_size, shape.intermediate_size, shape.query_size(), shape.kv_size());
        add("model.embed_tokens.weight".into(), &[shape.vocab_size, hidden]);
        add("model.norm.weight".into(), &[hidden]);
        if !shape.tie_word_embeddings {
            add("lm_head.weight".into(), &[shape.vocab_size, hidden]);
        }
        for layer in 0..shape.num_layers {
            let mut add = |name: &str, dims: &[usize]| add(format!("model.layers.{layer}.{name}.weight"), dims);
            add("input_layernorm", &[hidden]);
            add("self_attn.q_proj", &[query, hidden]);
            add("self_attn.k_proj", &[kv, hidden]);
            add("self_attn.v_proj", &[kv, hidden]);
            add("self_attn.o_proj", &[hidden, query]);
            add("post_attention_layernorm", &[hidden]);
            add("mlp.gate_proj", &[ffn, hidden]);
            add("mlp.up_proj", &[ffn, hidden]);
            add("mlp.down_proj", &[hidden, ffn]);
        }
        Self { shape, tensors }
    }

    pub(crate) fn config(&self) -> serde_json::Value {
        let shape = &self.shape;
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": shape.hidden_size, "intermediate_size": shape.intermediate_size,
            "num_hidden_layers": shape.num_layers, "num_attention_heads": shape.num_heads,
            "num_key_value_heads": shape.num_kv_heads, "vocab_size": shape.vocab_size,
            "max_position_embeddings": shape.context_length, "rms_norm_eps": shape.rms_norm_eps,
            "rope_theta": shape.rope_theta, "tie_word_embeddings": shape.tie_word_embeddings,
            "bos_token_id": 1, "eos_token_id": [2, 3],
        })
    }

    /// Writes a Hugging Face folder; with `num_shards` above one the weights are spread over files with an index.
    pub(crate) fn write_folder(&self, folder: &Path, dtype: DType, num_shards: usize) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config.json"), self.config().to_string()).unwrap();
        let tokenizer = json!({"added_tokens": [{"id": 2, "content": "<end>"}], "model": {"vocab": {"a": 5}}});
        fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
        let tokenizer_config = json!({"eos_token": "<end>", "chat_template": "{{ messages }}"});
        fs::write(folder.join("tokenizer_config.json"), tokenizer_config.to_string()).unwrap();

        let mut shards = vec![HashMap::new(); num_shards];
        let mut weight_map = serde_json::Map::new();
        for (index, (name, tensor)) in self.tensors.iter().enumerate() {
            shards[index % num_shards].insert(name.clone(), tensor.to_dtype(dtype).unwrap());
            weight_map.insert(name.clone(), shard_name(index % num_shards, num_shards).into());
        }
        for (index, tensors) in shards.iter().enumerate() {
            candle_core::safetensors::save(tensors, folder.join(shard_name(index, num_shards))).unwrap();
        }
        if num_shards > 1 {
            let index = json!({"weight_map": weight_map});
            fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }
    }

    /// Writes a GGUF file with the matrices in `dtype` and, as llama files have it, the rows of q and k in rotary
    /// pairs.
    pub(crate) fn write_gguf(&self, path: &Path, dtype: GgmlDType) {
        let tensors: Vec<_> = self.tensors.iter().map(|(name, tensor)| self.gguf_tensor(name, tensor, dtype)).collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let metadata = self.gguf_metadata();
        let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
        gguf_file::write(&mut File::create(path).unwrap(), &metadata, &tensors).unwrap();
    }

    /// The model as `dtype` keeps it: each matrix quantised and back.
    pub(crate) fn rounded(&self, dtype: GgmlDType) -> Self {
        let round = |tensor: &Tensor| match tensor.rank() {
            1 => tensor.clone(),
            _ => QTensor::quantize(tensor, dtype).unwrap().dequantize(&Device::Cpu).unwrap(),
        };
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), round(tensor))).collect();
        Self { shape: self.shape, tensors }
    }

    fn gguf_tensor(&self, name: &str, tensor: &Tensor, dtype: GgmlDType) -> (String, QTensor) {
        let heads = match name {
            _ if name.ends_with("q_proj.weight") => Some(self.shape.num_heads),
            _ if name.ends_with("k_proj.weight") => Some(self.shape.num_kv_heads),
            _ => None,
        };
        let tensor = match heads {
            // [head, half, pair] -> [head, pair, half]
            Some(num_heads) => {
                let (rows, cols) = tensor.dims2().unwrap();
                let split = tensor.reshape((num_heads, 2, rows / num_heads / 2, cols)).unwrap();
                split.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, cols)).unwrap()
            }
            None => tensor.clone(),
        };
        let dtype = if tensor.rank() == 1 { GgmlDType::F32 } else { dtype };
        let mut gguf_name = name.replace("model.layers.", "blk.");
        for (from, to) in [
            ("model.embed_tokens", "token_embd"),
            ("model.norm", "output_norm"),
            ("lm_head", "output"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ] {
            gguf_name = gguf_name.replace(from, to);
        }
        (gguf_name, QTensor::quantize(&tensor, dtype).unwrap())
    }

    fn gguf_metadata(&self) -> Vec<(&'static str, gguf_file::Value)> {
        use gguf_file::Value::{Array, Bool, F32, I32, String as Text, U32};
        let shape = &self.shape;
        let size = |size: usize| U32(size as u32);
        let texts = |count: usize| Array((0..count).map(|id| Text(format!("t{id}"))).collect());
        vec![
            ("general.architecture", Text("llama".into())),
            ("general.name", Text("Tiny Llama".into())),
            ("llama.block_count", size(shape.num_layers)),
            ("llama.context_length", size(shape.context_length)),
            ("llama.embedding_length", size(shape.hidden_size)),
            ("llama.feed_forward_length", size(shape.intermediate_size)),
            ("llama.attention.head_count", size(shape.num_heads)),
            ("llama.attention.head_count_kv", size(shape.num_kv_heads)),
            ("llama.attention.layer_norm_rms_epsilon", F32(shape.rms_norm_eps)),
            ("llama.rope.freq_base", F32(shape.rope_theta)),
            ("llama.rope.dimension_count", size(shape.head_dim)),
            ("tokenizer.ggml.model", Text("gpt2".into())),
            ("tokenizer.ggml.pre", Text("smollm".into())),
            ("tokenizer.ggml.tokens", texts(shape.vocab_size)),
            (
                "tokenizer.ggml.token_type",
                Array((0..shape.vocab_size).map(|id| I32(if id < 3 { 3 } else { 1 })).collect()),
            ),
            ("tokenizer.ggml.merges", texts(4)),
            ("tokenizer.ggml.bos_token_id", U32(1)),
            ("tokenizer.ggml.eos_token_id", U32(2)),
            ("tokenizer.ggml.add_bos_token", Bool(true)),
            ("tokenizer.chat_template", Text("{{ messages }}".into())),
        ]
    }
}

fn shard_name(index: usize, num_shards: usize) -> String {
    match num_shards {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{:05}-of-{num_shards:05}.safetensors", index + 1),
    }
}

/// What a random adapter acts on.
#[derive(Clone, Copy)]
pub(crate) struct AdapterParts {
    pub(crate) rank: usize,
    pub(crate) attention: bool,
    pub(crate) feed_forward: bool,
    pub(crate) head: bool,
    pub(crate) norms: bool,
    /// DoRA's factor on everything that the adapter acts on.
    pub(crate) gain: bool,
}

/// Loads a random model whose matrices have the given type.
pub(crate) fn weights(shape: LlamaShape, dtype: GgmlDType) -> Arc<LlamaWeights> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    TinyModel::random(shape, 3).write_gguf(&path, dtype);
    Arc::new(load(&path, folder.path()).unwrap().weights)
}

/// A random adapter, strong enough to change every logit.
pub(crate) fn random_adapter(shape: &LlamaShape, parts: AdapterParts, seed: u64) -> Arc<DeviceAdapter> {
    let mut random = Random::new(seed);
    let mut adapter = PackedAdapter::empty(Digest::of(&seed.to_le_bytes()), shape.num_layers);
    let mut pair = |is_on: bool, inputs: usize, outputs: usize| {
        if !is_on {
            return None;
        }
        let a = random.vector(parts.rank * inputs, 1.0 / (inputs as f32).sqrt());
        let b = random.vector(outputs * parts.rank, 0.3);
        let pair = LoraPair::pack(parts.rank, inputs, outputs, &a, &b, 1.5, SlabType::Bf16).unwrap();
        let gain = random.vector(outputs, 0.3).iter().map(|value| 1.0 + value).collect();
        Some(if parts.gain { pair.with_gain(gain).unwrap() } else { pair })
    };
    let (hidden, ffn, query, kv) = (shape.hidden_size, shape.intermediate_size, shape.query_size(), shape.kv_size());
    for layer in &mut adapter.layers {
        layer.q = pair(parts.attention, hidden, query);
        layer.k = pair(parts.attention, hidden, kv);
        layer.v = pair(parts.attention, hidden, kv);
        layer.o = pair(parts.attention, query, hidden);
        layer.gate = pair(parts.feed_forward, hidden, ffn);
        layer.up = pair(parts.feed_forward, hidden, ffn);
        layer.down = pair(parts.feed_forward, ffn, hidden);
    }
    adapter.lm_head = pair(parts.head, hidden, shape.vocab_size);
    if parts.norms {
        let mut norm = || Some(random.vector(hidden, 0.5).iter().map(|value| 1.0 + value).collect());
        for layer in &mut adapter.layers {
            (layer.attn_norm, layer.ffn_norm) = (norm(), norm());
        }
        adapter.final_norm = norm();
    }
    adapter.size_bytes = adapter.measure_bytes();
    Arc::new(Arc::new(adapter).on_cpu())
}
