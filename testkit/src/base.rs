//! Descriptions of base models, none of which has weights.

use souk_protocol::{BaseModel, Digest, LlamaShape, TokenizerSpec};

/// Two layers in which every width differs, so that a mixed-up one shows.
pub const SMALL: LlamaShape = LlamaShape {
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

/// SmolLM2-135M.
pub const SMOLLM2: LlamaShape = LlamaShape {
    num_layers: 30,
    hidden_size: 576,
    intermediate_size: 1536,
    num_heads: 9,
    num_kv_heads: 3,
    head_dim: 64,
    vocab_size: 49_152,
    context_length: 8192,
    rope_theta: 100_000.0,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: true,
};

/// A model called `id` and nothing else, whose digest is that of its id. It has no vocabulary to speak of, no template,
/// and token 0 ends an answer.
pub fn base(id: &str, shape: LlamaShape) -> BaseModel {
    BaseModel {
        id: id.to_owned(),
        digest: Digest::of(id.as_bytes()),
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

/// The characters that stand for the bytes 0 to 255 in a byte-level vocabulary, as GPT-2 assigns them.
pub fn byte_alphabet() -> Vec<char> {
    let mut shifted = '\u{100}'..;
    let stands_for_itself = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let character = |byte| match stands_for_itself(byte) {
        true => char::from(byte),
        false => shifted.next().expect("there are more characters than bytes"),
    };
    (0..=u8::MAX).map(character).collect()
}
