//! Llama models in one GGUF file.

mod header;
mod tokenizer;

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use souk_kernels::WeightType;
use souk_protocol::{BaseModel, LlamaShape, TokenizerSpec};

use self::header::{Header, TensorEntry, Value};
use super::digests::digest_of;
use super::fetch::{FetchConfig, FetchedBase};
use super::source::KNOWN_MODELS;
use super::tensors::{TensorFiles, TensorReader};
use super::weights::{LlamaWeights, RowOrder, TensorNames, check_shape};
use super::{BaseError, LoadedBase, OnProgress};

const NAMES: TensorNames = TensorNames {
    embedding: "token_embd.weight",
    final_norm: "output_norm.weight",
    head: "output.weight",
    layer_prefix: "blk.",
    attn_norm: "attn_norm.weight",
    q: "attn_q.weight",
    k: "attn_k.weight",
    v: "attn_v.weight",
    o: "attn_output.weight",
    ffn_norm: "ffn_norm.weight",
    gate: "ffn_gate.weight",
    up: "ffn_up.weight",
    down: "ffn_down.weight",
    redundant_in_layer: &[],
};

/// Reads the model in the file `path`.
pub(super) fn read(
    path: &Path,
    fetched: &FetchedBase,
    config: &FetchConfig,
    on_progress: OnProgress<'_>,
) -> Result<LoadedBase, BaseError> {
    let mut gguf = GgufFile::open(path)?;
    let tokenizer = gguf.tokenizer()?;
    let shape = gguf.shape(tokenizer.num_tokens)?;
    let digest = digest_of(path, config, on_progress)?;

    // Llama files have the rows of q and k in pairs for rotary positions, as the first llama code did.
    let row_order = RowOrder::of_interleaved_pairs(&shape);
    let mut reader = TensorReader::new(&mut gguf, on_progress);
    let weights = LlamaWeights::read(&mut reader, &NAMES, shape, Some(&row_order))?;

    let mut names = fetched.names.clone();
    // A known model is itself wherever its file lies.
    if let Some(known) = KNOWN_MODELS.iter().find(|known| known.digest == digest) {
        names = known.into();
    }
    for name in gguf.names_in_metadata() {
        names.add_alias(name);
    }
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

/// What the metadata says about text.
struct Tokenizer {
    spec: TokenizerSpec,
    num_tokens: usize,
    chat_template: Option<String>,
    eos_tokens: Vec<u32>,
    bos_token: Option<u32>,
    add_bos: bool,
    pad_token: Option<u32>,
}

/// An open file whose header has been read.
struct GgufFile {
    path: PathBuf,
    file: File,
    file_bytes: u64,
    header: Header,
}

impl GgufFile {
    fn open(path: &Path) -> Result<Self, BaseError> {
        let file = File::open(path).map_err(BaseError::io("open", path))?;
        let file_bytes = file.metadata().map_err(BaseError::io("examine", path))?.len();
        let header = Header::read(BufReader::with_capacity(1 << 18, &file), file_bytes)
            .map_err(|error| BaseError::malformed(path, error.to_string()))?;
        Ok(Self { path: path.to_owned(), file, file_bytes, header })
    }

    /// The model's sizes, with everything that would change the mathematics refused by name.
    fn shape(&self, num_tokens: usize) -> Result<LlamaShape, BaseError> {
        self.require_text("general.architecture", "llama")?;
        for key in ["llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.rope.scale_linear"] {
            self.require_off(key)?;
        }
        self.require_off("llama.expert_count")?;

        let num_heads = self.size("llama.attention.head_count")?;
        let hidden_size = self.size("llama.embedding_length")?;
        let head_dim = match self.optional_size("llama.attention.key_length")? {
            Some(head_dim) => head_dim,
            None => hidden_size / num_heads.max(1),
        };
        for key in ["llama.rope.dimension_count", "llama.attention.value_length"] {
            let given = self.optional_size(key)?.unwrap_or(head_dim);
            if given != head_dim {
                let reason = format!("{key} is {given}; it must be the head size, {head_dim}");
                return Err(BaseError::malformed(&self.path, reason));
            }
        }
        let shape = LlamaShape {
            num_layers: self.size("llama.block_count")?,
            hidden_size,
            intermediate_size: self.size("llama.feed_forward_length")?,
            num_heads,
            num_kv_heads: self.optional_size("llama.attention.head_count_kv")?.unwrap_or(num_heads),
            head_dim,
            vocab_size: num_tokens,
            context_length: self.size("llama.context_length")?,
            rope_theta: self.optional_float("llama.rope.freq_base")?.unwrap_or(10_000.0),
            rms_norm_eps: self
                .optional_float("llama.attention.layer_norm_rms_epsilon")?
                .ok_or_else(|| self.missing("llama.attention.layer_norm_rms_epsilon"))?,
            tie_word_embeddings: !self.header.tensors.contains_key(NAMES.head),
        };
        check_shape(&self.path, &shape)?;
        Ok(shape)
    }

    /// Names that `base_model_name_or_path` of an adapter may have for this model.
    fn names_in_metadata(&self) -> Vec<String> {
        let text = |key: &str| match self.header.metadata.get(key) {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        // The naming convention of the format: base name, size and fine-tune, with dashes between.
        let parts = ["general.basename", "general.size_label", "general.finetune"].map(text);
        let joined = parts.iter().flatten().copied().collect::<Vec<_>>().join("-");
        let name = text("general.name").map(str::to_owned);
        name.into_iter().chain(parts[0].is_some().then_some(joined)).collect()
    }

    fn require_text(&self, key: &str, expected: &'static str) -> Result<(), BaseError> {
        match self.header.metadata.get(key) {
            Some(Value::Text(given)) if given == expected => Ok(()),
            Some(Value::Text(given)) => Err(self.unsupported(key, given, expected)),
            Some(other) => Err(self.wrong_type(key, other)),
            None => Err(self.missing(key)),
        }
    }

    /// Refuses a setting that changes the model unless it says that it does not.
    fn require_off(&self, key: &str) -> Result<(), BaseError> {
        match self.header.metadata.get(key) {
            None | Some(Value::Unsigned(0)) => Ok(()),
            Some(Value::Text(text)) if text == "none" => Ok(()),
            Some(Value::Float(factor)) if *factor == 0.0 || *factor == 1.0 => Ok(()),
            Some(other) => Err(self.unsupported(key, &format!("{other:?}"), "none")),
        }
    }

    fn size(&self, key: &str) -> Result<usize, BaseError> {
        self.optional_size(key)?.ok_or_else(|| self.missing(key))
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, BaseError> {
        let size = match self.header.metadata.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(size)) => usize::try_from(*size).ok(),
            Some(Value::Signed(size)) => usize::try_from(*size).ok(),
            Some(other) => return Err(self.wrong_type(key, other)),
        };
        size.map(Some).ok_or_else(|| BaseError::malformed(&self.path, format!("{key} is out of range")))
    }

    fn optional_float(&self, key: &str) -> Result<Option<f32>, BaseError> {
        match self.header.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number as f32)),
            Some(other) => Err(self.wrong_type(key, other)),
        }
    }

    fn missing(&self, key: &str) -> BaseError {
        BaseError::malformed(&self.path, format!("{key} is missing from the metadata"))
    }

    fn wrong_type(&self, key: &str, given: &Value) -> BaseError {
        let given: String = format!("{given:?}").chars().take(80).collect();
        BaseError::malformed(&self.path, format!("{key} has a value of the wrong type: {given}"))
    }

    fn unsupported(&self, what: &str, given: &str, supported: &'static str) -> BaseError {
        let given = given.chars().take(80).collect();
        BaseError::Unsupported { path: self.path.clone(), what: what.to_owned(), given, supported }
    }
}

impl TensorFiles for GgufFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.header.tensors.keys().map(String::as_str))
    }

    fn read(&mut self, name: &str, shape: &[usize], bytes: &mut Vec<u8>) -> Result<WeightType, BaseError> {
        let error_path = || self.path.clone();
        let Some(entry) = self.header.tensors.get(name) else {
            return Err(BaseError::MissingTensor { path: error_path(), name: name.to_owned() });
        };
        if entry.shape.len() != shape.len() || entry.shape.iter().zip(shape).any(|(given, want)| *given != *want as u64)
        {
            let (expected, given) = (shape.to_vec(), entry.shape.clone());
            return Err(BaseError::TensorShape { path: error_path(), name: name.to_owned(), expected, given });
        }
        let Some(weight_type) = weight_type(entry.type_id) else {
            let what = format!("type of tensor {name}");
            return Err(self.unsupported(&what, &format!("GGML type {}", entry.type_id), SUPPORTED_TYPES));
        };
        let Some((start, len)) = entry.range(weight_type, self.header.data_offset, self.file_bytes) else {
            let reason = format!("tensor {name} is not a whole number of blocks or does not lie within the file");
            return Err(BaseError::malformed(&self.path, reason));
        };
        bytes.resize(len, 0);
        self.file.seek(SeekFrom::Start(start)).map_err(BaseError::io("read", &self.path))?;
        self.file.read_exact(bytes).map_err(BaseError::io("read", &self.path))?;
        Ok(weight_type)
    }

    fn total_bytes(&self) -> u64 {
        self.file_bytes.saturating_sub(self.header.data_offset)
    }
}

/// The types that are read, for messages.
const SUPPORTED_TYPES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

/// The type that the format gives a number.
fn weight_type(type_id: u32) -> Option<WeightType> {
    Some(match type_id {
        0 => WeightType::F32,
        1 => WeightType::F16,
        2 => WeightType::Q4_0,
        3 => WeightType::Q4_1,
        6 => WeightType::Q5_0,
        7 => WeightType::Q5_1,
        8 => WeightType::Q8_0,
        12 => WeightType::Q4_K,
        13 => WeightType::Q5_K,
        14 => WeightType::Q6_K,
        30 => WeightType::BF16,
        _ => return None,
    })
}

impl TensorEntry {
    /// Start and length of the tensor in the file, if all of it lies there.
    fn range(&self, weight_type: WeightType, data_offset: u64, file_bytes: u64) -> Option<(u64, usize)> {
        let (block_len, block_bytes) = (weight_type.block_len() as u64, weight_type.block_bytes() as u64);
        // Blocks run along the innermost dimension and never across rows.
        let whole_blocks = self.shape.last().is_none_or(|size| size.is_multiple_of(block_len));
        let num_weights = self.shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size))?;
        let len = whole_blocks.then_some(num_weights / block_len)?.checked_mul(block_bytes)?;
        let start = data_offset.checked_add(self.offset)?;
        (start.checked_add(len)? <= file_bytes).then_some(())?;
        Some((start, usize::try_from(len).ok()?))
    }
}
