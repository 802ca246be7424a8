//! Logprobs in the shapes of the two APIs.

use std::fmt::Write as _;

use serde::{Serialize, Serializer};
use souk_protocol::{TokenId, TokenLogprobs, Vocabulary};
use utoipa::ToSchema;

use super::piece::Scored;
use crate::text::Detokenizer;

/// Stands for the logarithm of zero, which JSON cannot write; the official API does the same.
const LOG_OF_ZERO: f32 = -9999.0;

/// Logprobs of a chat answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChatLogprobs {
    /// One entry per token of the answer.
    pub content: Vec<ChatTokenLogprob>,
    /// Always null.
    #[schema(required)]
    pub refusal: Option<String>,
}

/// A token of a chat answer and the likeliest alternatives to it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChatTokenLogprob {
    /// The token.
    #[serde(flatten)]
    pub token: TokenLogprob,
    /// The likeliest tokens at this place, likeliest first.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// A token with its logprob.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TokenLogprob {
    /// The token's text by itself; bytes that are no character by themselves show as U+FFFD.
    pub token: String,
    /// Natural logarithm of its probability; -9999 stands for zero probability.
    pub logprob: f32,
    /// The token's bytes.
    pub bytes: Vec<u8>,
}

impl ChatLogprobs {
    pub(crate) fn new(vocabulary: &Vocabulary, tokens: &[Scored]) -> Self {
        let one = |id: TokenId, logprob: f32| TokenLogprob {
            token: vocabulary.text(id),
            logprob: finite(logprob),
            bytes: vocabulary.bytes(id).to_vec(),
        };
        let content = tokens.iter().map(|Scored { id, logprobs }| ChatTokenLogprob {
            token: one(*id, logprobs.logprob),
            top_logprobs: logprobs.top.iter().map(|&(id, logprob)| one(id, logprob)).collect(),
        });
        Self { content: content.collect(), refusal: None }
    }
}

/// Logprobs of a text completion: four lists of the same length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct CompletionLogprobs {
    /// Text of each token; `bytes:\xNN…` for bytes that are no text by themselves.
    pub tokens: Vec<String>,
    /// Logprob of each token; null for the first token of an echoed prompt.
    pub token_logprobs: Vec<Option<f32>>,
    /// The likeliest alternatives at each place and the token itself.
    #[schema(value_type = Vec<Option<std::collections::HashMap<String, f32>>>)]
    pub top_logprobs: Vec<Option<Alternatives>>,
    /// Where each token begins, in characters from the begin of the text.
    pub text_offset: Vec<usize>,
}

/// Tokens with their logprobs, likeliest first; an object on the wire. The numbers are written as those in
/// `token_logprobs` are, so that clients may compare them for equality.
#[derive(Clone, Debug, PartialEq)]
pub struct Alternatives(Vec<(String, f32)>);

impl Serialize for Alternatives {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(token, logprob)| (token, logprob)))
    }
}

/// Counts where tokens begin, over all chunks of one answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct OffsetCounter {
    detokenizer: Detokenizer,
    num_characters: usize,
}

impl OffsetCounter {
    fn next(&mut self, vocabulary: &Vocabulary, id: TokenId) -> usize {
        let start = self.num_characters;
        let mut text = String::new();
        self.detokenizer.push(vocabulary.bytes(id), &mut text);
        self.num_characters += text.chars().count();
        start
    }
}

impl CompletionLogprobs {
    /// Appends a token. `logprobs` is `None` for the first token of a prompt, before which there is nothing.
    pub(crate) fn push(
        &mut self,
        vocabulary: &Vocabulary,
        offsets: &mut OffsetCounter,
        id: TokenId,
        logprobs: Option<&TokenLogprobs>,
    ) {
        self.tokens.push(token_key(vocabulary, id));
        self.token_logprobs.push(logprobs.map(|logprobs| finite(logprobs.logprob)));
        self.top_logprobs.push(logprobs.map(|logprobs| {
            let own = (id, logprobs.logprob);
            let mut alternatives = Vec::with_capacity(logprobs.top.len() + 1);
            for &(id, logprob) in logprobs.top.iter().chain([&own]) {
                let key = token_key(vocabulary, id);
                // Two tokens may have the same text; the likelier one, which comes first, stands for both.
                if alternatives.iter().all(|(known, _)| *known != key) {
                    alternatives.push((key, finite(logprob)));
                }
            }
            Alternatives(alternatives)
        }));
        self.text_offset.push(offsets.next(vocabulary, id));
    }

    /// Appends the entries of `more`.
    pub(crate) fn append(&mut self, more: Self) {
        self.tokens.extend(more.tokens);
        self.token_logprobs.extend(more.token_logprobs);
        self.top_logprobs.extend(more.top_logprobs);
        self.text_offset.extend(more.text_offset);
    }
}

/// A token's text where it is text, else its bytes written out.
fn token_key(vocabulary: &Vocabulary, id: TokenId) -> String {
    let bytes = vocabulary.bytes(id);
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut key = "bytes:".to_owned();
    for byte in bytes {
        write!(key, "\\x{byte:02x}").expect("writing to a string cannot fail");
    }
    key
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LOG_OF_ZERO }
}
