//! Small adapters for tests: a base of two layers, and files that fit it.

use half::{bf16, f16};
use serde_json::{Map, Value, json};

use super::modules::{Module, ModuleSite};
use super::tensors::TensorType;
use crate::{BaseModel, Digest, LlamaShape, TokenizerSpec};

/// A shape in which every width differs, so that a mixed-up one shows.
pub(super) fn small_shape() -> LlamaShape {
    LlamaShape {
        num_layers: 2,
        hidden_size: 12,
        intermediate_size: 20,
        num_heads: 4,
        num_kv_heads: 2,
        head_dim: 4,
        vocab_size: 32,
        context_length: 64,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: true,
    }
}

pub(crate) fn small_base() -> BaseModel {
    BaseModel {
        id: "tiny".to_owned(),
        digest: Digest::of(b"tiny"),
        aliases: vec!["Org/Tiny-Instruct".to_owned()],
        shape: small_shape(),
        tokenizer: TokenizerSpec::TokenizerJson("{}".to_owned()),
        chat_template: None,
        eos_tokens: vec![0],
        bos_token: None,
        add_bos: false,
        pad_token: None,
    }
}

/// A tensor to be written into a file.
#[derive(Clone, Debug)]
pub(super) struct SampleTensor {
    pub(super) name: String,
    pub(super) dtype: TensorType,
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<u8>,
}

impl SampleTensor {
    pub(super) fn new(name: &str, dtype: TensorType, shape: &[usize], value: f32) -> Self {
        let num_elements: usize = shape.iter().product();
        let data = vec![0; num_elements * dtype.size_bytes()];
        let mut tensor = Self { name: name.to_owned(), dtype, shape: shape.to_vec(), data };
        (0..num_elements).for_each(|index| tensor.set(index, value));
        tensor
    }

    pub(super) fn f16(name: &str, shape: &[usize], value: f32) -> Self {
        Self::new(name, TensorType::F16, shape, value)
    }

    pub(super) fn bf16(name: &str, shape: &[usize], value: f32) -> Self {
        Self::new(name, TensorType::BF16, shape, value)
    }

    pub(super) fn f32(name: &str, shape: &[usize], value: f32) -> Self {
        Self::new(name, TensorType::F32, shape, value)
    }

    pub(super) fn set(&mut self, index: usize, value: f32) {
        let size = self.dtype.size_bytes();
        let target = &mut self.data[index * size..][..size];
        match self.dtype {
            TensorType::F16 => target.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            TensorType::BF16 => target.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            TensorType::F32 => target.copy_from_slice(&value.to_le_bytes()),
        }
    }
}

/// Both halves of a pair, under the name that PEFT gives them.
pub(super) fn pair(site: ModuleSite, rank: usize) -> [SampleTensor; 2] {
    let shape = small_shape();
    let (width, height) = (site.module.in_features(&shape), site.module.out_features(&shape));
    let prefix = format!("base_model.model.{site}");
    [
        SampleTensor::bf16(&format!("{prefix}.lora_A.weight"), &[rank, width], 0.5),
        SampleTensor::bf16(&format!("{prefix}.lora_B.weight"), &[height, rank], -0.5),
    ]
}

/// Pairs of one rank on these modules of both layers.
pub(super) fn pairs(modules: &[Module], rank: usize) -> Vec<SampleTensor> {
    let sites = (0..2).flat_map(|layer| modules.iter().map(move |&module| ModuleSite { layer: Some(layer), module }));
    sites.flat_map(|site| pair(site, rank)).collect()
}

/// A safetensors file.
pub(super) fn weights_file(tensors: &[SampleTensor]) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for tensor in tensors {
        let start = end;
        end += tensor.data.len();
        let dtype = format!("{:?}", tensor.dtype);
        header
            .insert(tensor.name.clone(), json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]}));
    }
    let data: Vec<u8> = tensors.iter().flat_map(|tensor| tensor.data.iter().copied()).collect();
    raw_file(&Value::Object(header).to_string(), &data)
}

/// A file with this header text, valid or not.
pub(super) fn raw_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// A configuration for q and v at rank 4, with `changes` merged in.
pub(super) fn config_file(changes: &Value) -> Vec<u8> {
    let mut config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "Org/Tiny-Instruct",
        "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "bias": "none", "lora_dropout": 0.05,
        "inference_mode": true, "loftq_config": {}, "megatron_core": "megatron.core",
    });
    for (key, value) in changes.as_object().expect("changes are an object") {
        config[key] = value.clone();
    }
    config.to_string().into_bytes()
}
