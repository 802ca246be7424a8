//! The files of an adapter as PEFT writes them.

use std::path::Path;

use half::{bf16, f16};
use serde_json::{Map, Value, json};
use souk_protocol::LlamaShape;
use souk_protocol::peft::Module;

use crate::Random;

/// What a tensor's numbers are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Halves.
    F16,
    /// Brain floats.
    BF16,
    /// Single precision.
    F32,
}

/// A tensor of a safetensors file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// As the file has it.
    pub name: String,
    /// What its numbers are rounded to.
    pub stored: Stored,
    /// Sizes, the slowest first.
    pub shape: Vec<usize>,
    /// As many as the sizes' product.
    pub values: Vec<f32>,
}

impl Tensor {
    /// A part of the module at `path`, with numbers that follow from its name.
    pub fn new(path: &str, part: &str, stored: Stored, shape: &[usize]) -> Self {
        let name = format!("base_model.model.model.{path}.{part}");
        let seed = name.bytes().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        Self { values: Random::new(seed).floats(shape.iter().product()), name, stored, shape: shape.to_vec() }
    }

    fn bytes(&self) -> Vec<u8> {
        let values = self.values.iter();
        match self.stored {
            Stored::F16 => values.flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
            Stored::BF16 => values.flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
            Stored::F32 => values.flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

/// `adapter_model.safetensors` of these tensors, in their order.
pub fn weights_file(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in tensors {
        let begin = data.len();
        data.extend(tensor.bytes());
        let stored = format!("{:?}", tensor.stored);
        let entry = json!({ "dtype": stored, "shape": tensor.shape, "data_offsets": [begin, data.len()] });
        header.insert(tensor.name.clone(), entry);
    }
    with_header(&Value::Object(header).to_string(), &data)
}

/// A safetensors file with this header, sound or not.
pub fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// An adapter's two files.
#[derive(Clone, Debug)]
pub struct Files {
    /// `adapter_config.json`.
    pub config: Vec<u8>,
    /// `adapter_model.safetensors`.
    pub weights: Vec<u8>,
}

impl Files {
    /// Writes both into a folder that is there.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::write(folder.join("adapter_config.json"), &self.config)?;
        std::fs::write(folder.join("adapter_model.safetensors"), &self.weights)
    }
}

/// An adapter of random numbers.
#[derive(Clone, Debug)]
pub struct RandomAdapter<'a> {
    /// Of its base.
    pub shape: &'a LlamaShape,
    /// What the configuration calls the base.
    pub base: &'a str,
    /// Acted upon in every layer.
    pub modules: &'a [Module],
    /// `r`; `lora_alpha` is twice as much.
    pub rank: usize,
    /// With magnitudes around 1.
    pub is_dora: bool,
    /// The greatest number of either sign.
    pub size: f32,
}

impl RandomAdapter<'_> {
    /// Its files, in brain floats that follow from the seed.
    pub fn files(&self, seed: u64) -> Files {
        let names: Vec<_> = self.modules.iter().filter_map(|module| module.name().rsplit('.').next()).collect();
        let config = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": self.base, "bias": "none",
            "r": self.rank, "lora_alpha": 2 * self.rank, "target_modules": names, "use_dora": self.is_dora,
        });
        let mut random = Random::new(seed);
        let mut tensor = |name: String, shape: &[usize], center: f32| {
            let values = random.floats(shape.iter().product()).iter().map(|value| center + value * self.size).collect();
            Tensor { name, stored: Stored::BF16, shape: shape.to_vec(), values }
        };
        let mut tensors = Vec::new();
        for layer in 0..self.shape.num_layers {
            for module in self.modules {
                let path = format!("base_model.model.model.layers.{layer}.{}", module.name());
                let (inputs, outputs) = (module.in_features(self.shape), module.out_features(self.shape));
                tensors.push(tensor(format!("{path}.lora_A.weight"), &[self.rank, inputs], 0.0));
                tensors.push(tensor(format!("{path}.lora_B.weight"), &[outputs, self.rank], 0.0));
                if self.is_dora {
                    tensors.push(tensor(format!("{path}.lora_magnitude_vector"), &[outputs], 1.0));
                }
            }
        }
        Files { config: config.to_string().into_bytes(), weights: weights_file(&tensors) }
    }
}
