//! Llama models in a Hugging Face folder: `config.json`, `tokenizer.json`, `*.safetensors`.

mod config;
mod index;
mod text;
mod tokenizer;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use souk_kernels::WeightType;
use souk_protocol::{BaseModel, Digest};

use self::config::ModelConfig;
pub(super) use self::index::{INDEX_FILE, SINGLE_FILE, shards_of};
use self::text::read_json;
use self::tokenizer::Tokenizer;
use super::digests::digest_of;
use super::files::{FetchConfig, FetchedBase};
use super::loaded::LoadedBase;
use super::tensors::{TensorFiles, TensorReader};
use super::weights::{LlamaWeights, TensorNames, check_shape};
use super::{BaseError, OnProgress};

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
