//! The tokenizer of a Hugging Face folder: `tokenizer.json` and what the files beside it say about special tokens.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use souk_protocol::{TokenId, TokenizerSpec};

use super::config::{ModelConfig, TokenIds};
use super::{read_optional_json, read_text};
use crate::base::BaseError;

/// What the files say about text.
pub(super) struct Tokenizer {
    pub(super) spec: TokenizerSpec,
    pub(super) chat_template: Option<String>,
    pub(super) eos_tokens: Vec<TokenId>,
    pub(super) bos_token: Option<TokenId>,
    pub(super) add_bos: bool,
    pub(super) pad_token: Option<TokenId>,
}

/// The fields of `tokenizer_config.json` that matter here.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<ChatTemplate>,
    bos_token: Option<SpecialToken>,
    eos_token: Option<SpecialToken>,
    pad_token: Option<SpecialToken>,
    add_bos_token: Option<bool>,
}

/// One template, or several by name.
#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplate {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// A token's text, bare or in an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum SpecialToken {
    Text(String),
    Object { content: String },
}

#[derive(Default, Deserialize)]
struct GenerationConfig {
    #[serde(default)]
    eos_token_id: TokenIds,
}

impl Tokenizer {
    pub(super) fn read(folder: &Path, model: &ModelConfig, vocab_size: usize) -> Result<Self, BaseError> {
        let path = folder.join("tokenizer.json");
        let text = read_text(&path)?;
        let json: Value =
            serde_json::from_str(&text).map_err(|error| BaseError::malformed(&path, error.to_string()))?;
        let config: TokenizerConfig = read_optional_json(&folder.join("tokenizer_config.json"))?;
        let generation: GenerationConfig = read_optional_json(&folder.join("generation_config.json"))?;

        let id_of = |token: &Option<SpecialToken>| token.as_ref().and_then(|token| id_of_text(&json, token.text()));
        let bos_token = id_of(&config.bos_token).or(model.bos_token_id);
        // Each file may know an ending that the others do not: chat models end turns with a token of their own.
        let mut eos_tokens = Vec::new();
        let listed = [generation.eos_token_id.as_slice(), model.eos_token_id.as_slice()].concat();
        for id in listed.into_iter().chain(id_of(&config.eos_token)) {
            if !eos_tokens.contains(&id) {
                eos_tokens.push(id);
            }
        }
        let add_bos = config.add_bos_token.unwrap_or_else(|| adds_bos(&json, bos_token));
        let tokenizer = Self {
            chat_template: chat_template(folder, config.chat_template)?,
            eos_tokens,
            bos_token,
            add_bos: add_bos && bos_token.is_some(),
            pad_token: id_of(&config.pad_token).or(model.pad_token_id),
            spec: TokenizerSpec::TokenizerJson(text),
        };
        let special = tokenizer.eos_tokens.iter().copied().chain(tokenizer.bos_token).chain(tokenizer.pad_token);
        match special.max().filter(|id| *id as usize >= vocab_size) {
            Some(id) => {
                let reason = format!("special token {id} is outside of the vocabulary of {vocab_size}");
                Err(BaseError::malformed(folder, reason))
            }
            None => Ok(tokenizer),
        }
    }
}

impl SpecialToken {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

/// A file of its own wins over the field in `tokenizer_config.json`, as it does for the writers of both.
fn chat_template(folder: &Path, in_config: Option<ChatTemplate>) -> Result<Option<String>, BaseError> {
    let path = folder.join("chat_template.jinja");
    if path.exists() {
        return read_text(&path).map(Some);
    }
    Ok(match in_config {
        Some(ChatTemplate::One(template)) => Some(template),
        Some(ChatTemplate::Named(templates)) => {
            templates.into_iter().find(|named| named.name == "default").map(|named| named.template)
        }
        None => None,
    })
}

/// The id of a token by its text, from the added tokens and then from the vocabulary.
fn id_of_text(json: &Value, text: &str) -> Option<TokenId> {
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.filter(|token| token["content"] == text).find_map(|token| token["id"].as_u64());
    let id = added.or_else(|| json["model"]["vocab"].get(text)?.as_u64());
    id.and_then(|id| TokenId::try_from(id).ok())
}

/// Whether the post-processor puts the begin token before a text.
fn adds_bos(json: &Value, bos_token: Option<TokenId>) -> bool {
    let processor = &json["post_processor"];
    let nested = processor["processors"].as_array().into_iter().flatten();
    nested.chain([processor]).any(|processor| {
        let first = processor["single"][0]["SpecialToken"]["id"].as_str();
        first.is_some_and(|first| bos_token.is_some() && id_of_text(json, first) == bos_token)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_post_processor_that_begins_with_the_begin_token_adds_it() {
        let json = json!({
            "added_tokens": [{"id": 7, "content": "<s>"}],
            "post_processor": {"type": "Sequence", "processors": [
                {"type": "ByteLevel"},
                {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]},
            ]},
            "model": {"vocab": {"a": 0}},
        });
        assert!(adds_bos(&json, Some(7)));
        assert!(!adds_bos(&json, Some(0)) && !adds_bos(&json, None));
        assert!(!adds_bos(&json!({"post_processor": null}), Some(7)));
        assert_eq!((id_of_text(&json, "a"), id_of_text(&json, "b")), (Some(0), None));
    }
}
