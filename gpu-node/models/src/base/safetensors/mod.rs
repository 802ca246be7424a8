//! Llama models in a Hugging Face folder: `config.json`, `tokenizer.json`, `*.safetensors`.

mod config;
mod tokenizer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use souk_kernels::WeightType;
use souk_protocol::{BaseModel, Digest};

use self::config::ModelConfig;
use self::tokenizer::Tokenizer;
use super::digests::digest_of;
use super::fetch::{FetchConfig, FetchedBase};
use super::tensors::{TensorFiles, TensorReader};
use super::weights::{LlamaWeights, TensorNames, check_shape};
use super::{BaseError, LoadedBase, OnProgress};

/// The weights of a model that has one file of them.
pub(super) const SINGLE_FILE: &str = "model.safetensors";
/// Says which file has which tensor, in a model that has several.
pub(super) const INDEX_FILE: &str = "model.safetensors.index.json";

/// Longest JSON file that is read; the largest tokenizers in use have about 35 MB.
const MAX_JSON_BYTES: u64 = 128 << 20;
/// Longest header of a weights file that is read; real ones have a few hundred kilobytes.
const MAX_HEADER_BYTES: u64 = 16 << 20;

const NAMES: TensorNames = TensorNames {
    embedding: "model.embed_tokens.weight",
    final_norm: "model.norm.weight",
    head: "lm_head.weight",
    layer_prefix: "model.layers.",
    attn_norm: "input_layernorm.weight",
    q: "self_attn.q_proj.weight",
    k: "self_attn.k_proj.weight",
    v: "self_attn.v_proj.weight",
    o: "self_attn.o_proj.weight",
    ffn_norm: "post_attention_layernorm.weight",
    gate: "mlp.gate_proj.weight",
    up: "mlp.up_proj.weight",
    down: "mlp.down_proj.weight",
    redundant_in_layer: &["self_attn.rotary_emb.inv_freq"],
};

/// Reads the model in `folder`.
pub(super) fn read(
    folder: &Path,
    fetched: &FetchedBase,
    config: &FetchConfig,
    on_progress: OnProgress<'_>,
) -> Result<LoadedBase, BaseError> {
    let config_path = folder.join("config.json");
    let model_config: ModelConfig = read_json(&config_path)?;
    let shape = model_config.shape(&config_path)?;
    check_shape(&config_path, &shape)?;
    let tokenizer = Tokenizer::read(folder, &model_config, shape.vocab_size)?;

    let index = folder.join(INDEX_FILE);
    let shards = if index.exists() { shards_of(&index)? } else { vec![SINGLE_FILE.to_owned()] };
    let digest = digest_of_shards(folder, &shards, config, on_progress)?;
    let mut files = Shards::open(folder, &shards)?;
    let weights = LlamaWeights::read(&mut TensorReader::new(&mut files, on_progress), &NAMES, shape, None)?;

    let mut names = fetched.names.clone();
    names.add_alias(model_config.name_or_path.unwrap_or_default());
    let model = BaseModel {
        id: names.id,
        digest,
        aliases: names.aliases,
        shape,
        tokenizer: tokenizer.spec,
        chat_template: tokenizer.chat_template,
        eos_tokens: tokenizer.eos_tokens,
        bos_token: tokenizer.bos_token,
        add_bos: tokenizer.add_bos,
        pad_token: tokenizer.pad_token,
    };
    Ok(LoadedBase { model, weights })
}

/// The names of the weights files that an index names, sorted.
pub(super) fn shards_of(index: &Path) -> Result<Vec<String>, BaseError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let Index { weight_map } = read_json(index)?;
    let shards: BTreeSet<String> = weight_map.into_values().collect();
    // An index comes from the same stranger as the weights; it may name files of its own folder only.
    match shards.iter().find(|name| name.contains(['/', '\\']) || name.starts_with('.')) {
        Some(name) => Err(BaseError::malformed(index, format!("`{name}` is not the name of a file beside it"))),
        None if shards.is_empty() => Err(BaseError::malformed(index, "it names no weights")),
        None => Ok(shards.into_iter().collect()),
    }
}

/// The digest of the only file, or the digest of the list of files with their digests, as `sha256sum` prints it.
fn digest_of_shards(
    folder: &Path,
    shards: &[String],
    config: &FetchConfig,
    on_progress: OnProgress<'_>,
) -> Result<Digest, BaseError> {
    let mut list = String::new();
    for name in shards {
        let digest = digest_of(&folder.join(name), config, on_progress)?;
        if shards.len() == 1 {
            return Ok(digest);
        }
        list += &format!("{}  {name}\n", digest.hex());
    }
    Ok(Digest::of(list.as_bytes()))
}

/// Reads a JSON file that a stranger wrote.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, BaseError> {
    serde_json::from_str(&read_text(path)?).map_err(|error| BaseError::malformed(path, error.to_string()))
}

fn read_optional_json<T: DeserializeOwned + Default>(path: &Path) -> Result<T, BaseError> {
    if path.exists() { read_json(path) } else { Ok(T::default()) }
}

fn read_text(path: &Path) -> Result<String, BaseError> {
    let file = File::open(path).map_err(BaseError::io("open", path))?;
    let mut text = String::new();
    let len = file.take(MAX_JSON_BYTES).read_to_string(&mut text).map_err(BaseError::io("read", path))?;
    if len as u64 == MAX_JSON_BYTES {
        return Err(BaseError::malformed(path, format!("it has more than {MAX_JSON_BYTES} bytes")));
    }
    Ok(text)
}

/// The open weights files of a model.
struct Shards {
    folder: PathBuf,
    shards: Vec<Shard>,
    /// Which shard has which tensor, and where.
    tensors: HashMap<String, (usize, TensorInfo)>,
}

struct Shard {
    path: PathBuf,
    file: File,
    /// Where in the file the offsets of tensors are counted from.
    data_offset: u64,
    data_bytes: u64,
}

impl Shards {
    fn open(folder: &Path, names: &[String]) -> Result<Self, BaseError> {
        let mut files = Self { folder: folder.to_owned(), shards: Vec::new(), tensors: HashMap::new() };
        for name in names {
            let path = folder.join(name);
            let (shard, metadata) = Shard::open(&path)?;
            for (tensor, info) in metadata.tensors() {
                if info.data_offsets.1 as u64 > shard.data_bytes {
                    return Err(BaseError::malformed(&path, format!("tensor {tensor} ends beyond the file")));
                }
                if files.tensors.insert(tensor.clone(), (files.shards.len(), info.clone())).is_some() {
                    return Err(BaseError::malformed(&path, format!("tensor {tensor} is in another file too")));
                }
            }
            files.shards.push(shard);
        }
        Ok(files)
    }
}

impl Shard {
    fn open(path: &Path) -> Result<(Self, Metadata), BaseError> {
        let mut file = File::open(path).map_err(BaseError::io("open", path))?;
        let file_bytes = file.metadata().map_err(BaseError::io("examine", path))?.len();
        let mut len = [0; 8];
        file.read_exact(&mut len).map_err(BaseError::io("read the header of", path))?;
        let header_bytes = u64::from_le_bytes(len);
        let limit = MAX_HEADER_BYTES.min(file_bytes - 8);
        if header_bytes > limit {
            let reason = format!("the header says that it has {header_bytes} bytes; {limit} are possible");
            return Err(BaseError::malformed(path, reason));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(BaseError::io("read the header of", path))?;
        // Deserialising checks that the tensors follow one another without gap or overlap and have the sizes that their
        // shapes and types imply.
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| BaseError::malformed(path, error.to_string()))?;
        let data_offset = 8 + header_bytes;
        let shard = Self { path: path.to_owned(), file, data_offset, data_bytes: file_bytes - data_offset };
        Ok((shard, metadata))
    }
}

impl TensorFiles for Shards {
    fn path(&self) -> &Path {
        &self.folder
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.keys().map(String::as_str))
    }

    fn read(&mut self, name: &str, shape: &[usize], bytes: &mut Vec<u8>) -> Result<WeightType, BaseError> {
        let Some((shard, info)) = self.tensors.get(name) else {
            return Err(BaseError::MissingTensor { path: self.folder.clone(), name: name.to_owned() });
        };
        let shard = &mut self.shards[*shard];
        let (path, tensor) = (shard.path.clone(), name.to_owned());
        if info.shape != shape {
            let given = info.shape.iter().map(|size| *size as u64).collect();
            return Err(BaseError::TensorShape { path, name: tensor, expected: shape.to_vec(), given });
        }
        let weight_type = match info.dtype {
            Dtype::F32 => WeightType::F32,
            Dtype::F16 => WeightType::F16,
            Dtype::BF16 => WeightType::BF16,
            other => {
                let (what, given) = (format!("type of tensor {name}"), format!("{other:?}"));
                return Err(BaseError::Unsupported { path, what, given, supported: "F32, F16, BF16" });
            }
        };
        let (start, end) = info.data_offsets;
        bytes.resize(end - start, 0);
        let start = SeekFrom::Start(shard.data_offset + start as u64);
        shard.file.seek(start).map_err(BaseError::io("read", &path))?;
        shard.file.read_exact(bytes).map_err(BaseError::io("read", &path))?;
        Ok(weight_type)
    }

    fn total_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.data_bytes).sum()
    }
}
