//! Adapters as files, in a folder as the registry keeps it.

use std::fs;
use std::path::Path;

use serde_json::json;
use souk_protocol::manifest::blob_path;
use souk_protocol::peft::Module;
use souk_protocol::{AdapterManifest, BaseModel, Digest, FileEntry};

use crate::hash;

/// What kind of adapter is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) label: &'static str,
    pub(crate) rank: usize,
    pub(crate) modules: &'static [Module],
    pub(crate) is_dora: bool,
}

pub(crate) const QUERY_VALUE: Kind =
    Kind { label: "r=8 q,v", rank: 8, modules: &[Module::Q, Module::V], is_dora: false };
pub(crate) const ALL_LINEAR: Kind =
    Kind { label: "r=16 all linear", rank: 16, modules: &Module::OF_LAYER, is_dora: false };
pub(crate) const DORA: Kind = Kind { label: "r=8 q,v DoRA", is_dora: true, ..QUERY_VALUE };

/// Publishes an adapter with numbers that follow from `seed`, and returns its digest.
pub(crate) fn publish(root: &Path, base: &BaseModel, kind: Kind, seed: u64) -> Digest {
    let names: Vec<_> = kind.modules.iter().filter_map(|module| module.name().rsplit('.').next()).collect();
    let config = json!({
        "peft_type": "LORA", "r": kind.rank, "lora_alpha": 2 * kind.rank, "target_modules": names, "use_dora": kind.is_dora,
    });
    let config = put(root, config.to_string().as_bytes());
    let weights = put(root, &weights(base, kind, seed));
    put(root, &AdapterManifest::new(base.digest, config, weights).canonical_bytes()).digest
}

fn put(root: &Path, bytes: &[u8]) -> FileEntry {
    let entry = FileEntry { digest: Digest::of(bytes), size_bytes: bytes.len() as u64 };
    let path = root.join(blob_path(&entry.digest));
    fs::create_dir_all(path.parent().expect("a blob lies in a folder")).expect("the folder can be made");
    fs::write(path, bytes).expect("there is room for the adapters");
    entry
}

/// A safetensors file of brain floats.
fn weights(base: &BaseModel, kind: Kind, seed: u64) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    let mut state = hash(seed + 1);
    let mut add = |name: String, shape: &[usize], center: f32| {
        let begin = data.len();
        for _ in 0..shape.iter().product() {
            state = hash(state);
            let value = center + (state >> 40) as f32 / (1u64 << 24) as f32 * 0.02 - 0.01;
            data.extend_from_slice(&value.to_bits().to_le_bytes()[2..]);
        }
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name, entry);
    };
    for layer in 0..base.shape.num_layers {
        for module in kind.modules {
            let path = format!("base_model.model.model.layers.{layer}.{}", module.name());
            let (inputs, outputs) = (module.in_features(&base.shape), module.out_features(&base.shape));
            add(format!("{path}.lora_A.weight"), &[kind.rank, inputs], 0.0);
            add(format!("{path}.lora_B.weight"), &[outputs, kind.rank], 0.0);
            if kind.is_dora {
                add(format!("{path}.lora_magnitude_vector"), &[outputs], 1.0);
            }
        }
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
