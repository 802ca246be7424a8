//! A base model small enough to read: bytes, a few merges, and a chat template with named control tokens.

use souk_protocol::{BaseModel, Digest, LlamaShape, TokenId, TokenizerSpec};

/// Control tokens, by id.
const CONTROLS: [&str; 5] = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"];
/// `<|end|>`.
pub(crate) const END: TokenId = 1;

const MERGES: [&str; 6] = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r"];

/// The model's description.
pub(crate) fn tiny_base() -> BaseModel {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut shifted = '\u{100}'..;
    let bytes = (0..=u8::MAX)
        .map(|byte| if printable(byte) { char::from(byte).to_string() } else { shifted.next().unwrap().to_string() });
    let tokens: Vec<String> = CONTROLS
        .iter()
        .map(|&text| text.to_owned())
        .chain(bytes)
        .chain(MERGES.map(|merge| merge.replace(' ', "")))
        .collect();
    BaseModel {
        id: "tiny".to_owned(),
        digest: Digest::of(b"tiny base"),
        aliases: vec!["tiny".to_owned()],
        shape: LlamaShape {
            num_layers: 1,
            hidden_size: 8,
            intermediate_size: 8,
            num_heads: 1,
            num_kv_heads: 1,
            head_dim: 8,
            vocab_size: tokens.len(),
            context_length: 256,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
        },
        tokenizer: TokenizerSpec::ByteLevelBpe {
            control_tokens: (0..).take(CONTROLS.len()).collect(),
            merges: MERGES.map(str::to_owned).to_vec(),
            pre: "smollm".to_owned(),
            tokens,
        },
        chat_template: Some(
            "{% for m in messages %}{{ '<|' + ('system' if m.role == 'tool' else m.role) + '|>' + m.content + '<|end|>' }}\
             {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
                .to_owned(),
        ),
        eos_tokens: vec![END],
        bos_token: Some(0),
        add_bos: false,
        pad_token: Some(END),
    }
}
