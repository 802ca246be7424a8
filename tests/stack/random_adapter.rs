//! Makes PEFT adapters out of random numbers, as many as a test wants.

#![allow(dead_code, unreachable_pub, reason = "not every test file makes adapters")]

use std::path::Path;

use serde_json::{Map, Value, json};

/// Sizes of the base model that the tests serve.
const LAYERS: usize = 30;
const HIDDEN: usize = 576;
const KV: usize = 192;

/// Numbers that repeat for a seed: SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is small against 2^64.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// One of `items`, the n-th 1/n times as often as the first (Zipf's law with exponent 1).
    pub fn zipf<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let total: f64 = (1..=items.len()).map(|rank| 1.0 / rank as f64).sum();
        let mut left = self.next() as f64 / u64::MAX as f64 * total;
        for (index, item) in items.iter().enumerate() {
            left -= 1.0 / (index + 1) as f64;
            if left <= 0.0 {
                return item;
            }
        }
        &items[items.len() - 1]
    }
}

/// Writes an adapter of `rank` on queries and values whose bf16 weights lie within ±0.03.
pub fn write(folder: &Path, seed: u64, rank: usize) {
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none",
        "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct", "target_modules": ["q_proj", "v_proj"],
    });
    let mut header = Map::new();
    let mut num_bytes = 0;
    for layer in 0..LAYERS {
        for (module, outputs) in [("q_proj", HIDDEN), ("v_proj", KV)] {
            for (half, shape) in [("lora_A", [rank, HIDDEN]), ("lora_B", [outputs, rank])] {
                let name = format!("base_model.model.model.layers.{layer}.self_attn.{module}.{half}.weight");
                let end = num_bytes + 2 * shape[0] * shape[1];
                header.insert(name, json!({ "dtype": "BF16", "shape": shape, "data_offsets": [num_bytes, end] }));
                num_bytes = end;
            }
        }
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    let mut random = Random(seed);
    for _ in 0..num_bytes / 2 {
        let bits = random.next();
        // Exponents of 2^-9 to 2^-6 with any sign and fraction.
        let value = ((bits & 1) << 15) | ((118 + (bits >> 1) % 4) << 7) | (bits >> 3) & 0x7f;
        file.extend_from_slice(&(value as u16).to_le_bytes());
    }
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).expect("the folder can be written");
    std::fs::write(folder.join("adapter_model.safetensors"), file).expect("the folder can be written");
}
