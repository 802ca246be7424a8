//! A base model's description for tests, of which most change something.

use souk_protocol::{BaseModel, Digest, LlamaShape, TokenizerSpec};

/// A model of two layers without a vocabulary.
pub(crate) fn base() -> BaseModel {
    let shape = LlamaShape {
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
    BaseModel {
        id: "tiny".to_owned(),
        digest: Digest::of(b"tiny"),
        aliases: Vec::new(),
        shape,
        tokenizer: TokenizerSpec::TokenizerJson("{}".to_owned()),
        chat_template: None,
        eos_tokens: vec![0],
        bos_token: None,
        add_bos: false,
        pad_token: None,
    }
}
