//! What the other services need to know of a base model: its identity, its shape, and how text becomes token ids.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// An entry of the vocabulary.
pub type TokenId = u32;

/// A base model as its node describes it. Holds no weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseModel {
    /// The id that callers write in `model`, for example `smollm2-135m-instruct`.
    pub id: String,
    /// SHA-256 over the model's weights file or files.
    pub digest: Digest,
    /// Names in `base_model_name_or_path` that mean this model, compared without case and by their last path segment.
    pub aliases: Vec<String>,
    /// Widths, layers and heads.
    pub shape: LlamaShape,
    /// How text becomes token ids.
    pub tokenizer: TokenizerSpec,
    /// The model's own chat template (Jinja), or `None` for a model that has none.
    pub chat_template: Option<String>,
    /// Tokens that end an answer.
    pub eos_tokens: Vec<TokenId>,
    /// The token that begins a text, where the model has one.
    pub bos_token: Option<TokenId>,
    /// Whether the tokenizer puts `bos_token` before plain text by itself.
    pub add_bos: bool,
    /// The padding token, where the model has one.
    pub pad_token: Option<TokenId>,
}

/// Sizes of a llama-family model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LlamaShape {
    /// Number of transformer layers.
    pub num_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Number of query heads.
    pub num_heads: usize,
    /// Number of key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Number of entries in the vocabulary.
    pub vocab_size: usize,
    /// Longest context in tokens that the model was trained for.
    pub context_length: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f32,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
}

impl LlamaShape {
    /// Width of the concatenated query heads.
    #[must_use]
    pub const fn query_size(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Width of the concatenated key (or value) heads.
    #[must_use]
    pub const fn kv_size(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }
}

/// How text becomes token ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TokenizerSpec {
    /// Byte-level BPE as GGUF metadata gives it.
    ByteLevelBpe {
        /// Text of each token, in the byte-level alphabet (control tokens: as they are).
        tokens: Vec<String>,
        /// Ids of control tokens, which never come from user text.
        control_tokens: Vec<TokenId>,
        /// Merges in order of rank, each `left right`.
        merges: Vec<String>,
        /// Name of the pre-tokenizer, for example `smollm`.
        pre: String,
    },
    /// The text of a `tokenizer.json` file.
    TokenizerJson(String),
}
