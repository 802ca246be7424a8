//! A base model small enough to read: bytes, a few merges, and a chat template with named control tokens.

use souk_protocol::{BaseModel, Digest, LlamaShape, TokenId, TokenizerSpec};
use souk_testkit::base::{SMALL, base, byte_alphabet};

/// Control tokens, by id.
const CONTROLS: [&str; 5] = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"];
/// `<|end|>`.
pub(crate) const END: TokenId = 1;

const MERGES: [&str; 6] = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r"];

/// The model's description.
pub(crate) fn tiny_base() -> BaseModel {
    let bytes = byte_alphabet().into_iter().map(String::from);
    let merged = MERGES.map(|merge| merge.replace(' ', ""));
    let tokens: Vec<String> = CONTROLS.iter().map(|&text| text.to_owned()).chain(bytes).chain(merged).collect();
    let shape = LlamaShape { vocab_size: tokens.len(), context_length: 256, ..SMALL };
    BaseModel {
        digest: Digest::of(b"tiny base"),
        aliases: vec!["tiny".to_owned()],
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
        pad_token: Some(END),
        ..base("tiny", shape)
    }
}
