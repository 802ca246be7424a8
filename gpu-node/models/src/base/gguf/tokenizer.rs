//! The tokenizer as GGUF metadata gives it.

use souk_protocol::{TokenId, TokenizerSpec};

use super::header::Value;
use super::{BaseError, GgufFile, Tokenizer};

/// Number of the token type `control` in `tokenizer.ggml.token_type`.
const CONTROL: i64 = 3;

impl GgufFile {
    /// Takes the tokenizer out of the metadata: its texts are moved, not copied.
    pub(super) fn tokenizer(&mut self) -> Result<Tokenizer, BaseError> {
        self.require_text("tokenizer.ggml.model", "gpt2")?;
        let tokens = self.take_texts("tokenizer.ggml.tokens")?;
        let merges = self.take_texts("tokenizer.ggml.merges")?;
        let control_tokens = self.control_tokens(tokens.len())?;
        let token = |key: &str| self.token(key, tokens.len());

        let mut eos_tokens = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
            eos_tokens.extend(token(key)?.filter(|id| !eos_tokens.contains(id)));
        }
        let bos_token = token("tokenizer.ggml.bos_token_id")?;
        let pad_token = token("tokenizer.ggml.padding_token_id")?;
        let add_bos = match self.header.metadata.get("tokenizer.ggml.add_bos_token") {
            Some(Value::Bool(add_bos)) => *add_bos,
            Some(other) => return Err(self.wrong_type("tokenizer.ggml.add_bos_token", other)),
            // The default of byte-level BPE models.
            None => false,
        };
        Ok(Tokenizer {
            num_tokens: tokens.len(),
            spec: TokenizerSpec::ByteLevelBpe {
                tokens,
                control_tokens,
                merges,
                pre: self.take_text("tokenizer.ggml.pre")?.unwrap_or_else(|| "default".to_owned()),
            },
            chat_template: self.take_text("tokenizer.chat_template")?,
            eos_tokens,
            bos_token,
            add_bos: add_bos && bos_token.is_some(),
            pad_token,
        })
    }

    fn control_tokens(&self, num_tokens: usize) -> Result<Vec<TokenId>, BaseError> {
        let key = "tokenizer.ggml.token_type";
        let types = match self.header.metadata.get(key) {
            Some(Value::Integers(types)) => types,
            Some(other) => return Err(self.wrong_type(key, other)),
            None => return Err(self.missing(key)),
        };
        if types.len() != num_tokens {
            let reason = format!("{key} has {} entries for {num_tokens} tokens", types.len());
            return Err(BaseError::malformed(&self.path, reason));
        }
        Ok((0..).zip(types).filter(|(_, kind)| **kind == CONTROL).map(|(id, _)| id).collect())
    }

    fn token(&self, key: &str, num_tokens: usize) -> Result<Option<TokenId>, BaseError> {
        match self.optional_size(key)? {
            None => Ok(None),
            Some(id) if id < num_tokens => Ok(Some(id as TokenId)),
            Some(id) => {
                let reason = format!("{key} is {id} and there are {num_tokens} tokens");
                Err(BaseError::malformed(&self.path, reason))
            }
        }
    }

    fn take_texts(&mut self, key: &str) -> Result<Vec<String>, BaseError> {
        match self.header.metadata.remove(key) {
            Some(Value::Texts(texts)) => Ok(texts),
            Some(other) => Err(self.wrong_type(key, &other)),
            None => Err(self.missing(key)),
        }
    }

    fn take_text(&mut self, key: &str) -> Result<Option<String>, BaseError> {
        match self.header.metadata.remove(key) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, &other)),
            None => Ok(None),
        }
    }
}
