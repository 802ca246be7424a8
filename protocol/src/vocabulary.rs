//! What each token id stands for, in bytes.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::{TokenId, TokenizerSpec};

/// The bytes of every token and which of them are control tokens.
pub struct Vocabulary {
    /// All tokens' bytes, one after the other.
    arena: Vec<u8>,
    /// Where each token ends in the arena.
    ends: Vec<u32>,
    controls: HashSet<TokenId>,
    longest_bytes: usize,
}

/// Why the vocabulary of a tokenizer cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// The text is not what a `tokenizer.json` should be.
    #[error("this tokenizer.json cannot be read: {0}")]
    Malformed(String),
    /// The decoder says how entries of the vocabulary stand for bytes.
    #[error(
        "the decoder of this tokenizer.json is not supported; supported are ByteLevel, and ByteFallback or Metaspace"
    )]
    Decoder,
}

/// Most entries of a vocabulary; the largest models in use have some 260,000.
const MAX_ENTRIES: usize = 1 << 21;

/// How the text of a vocabulary entry stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alphabet {
    /// One character per byte, after GPT-2.
    ByteLevel,
    /// Text with `▁` for a space and `<0xAB>` for single bytes, after SentencePiece.
    SentencePiece,
}

impl Vocabulary {
    /// The vocabulary of a tokenizer.
    ///
    /// # Errors
    /// [`VocabularyError`] if a `tokenizer.json` is malformed, or says in an unknown way what its entries stand for.
    pub fn of(tokenizer: &TokenizerSpec) -> Result<Self, VocabularyError> {
        match tokenizer {
            TokenizerSpec::ByteLevelBpe { tokens, control_tokens, .. } => {
                let controls = control_tokens.iter().copied().collect();
                let entries = tokens.iter().map(String::as_str);
                Ok(Self::new(entries, Alphabet::ByteLevel, &HashSet::new(), controls))
            }
            TokenizerSpec::TokenizerJson(text) => {
                let json = serde_json::from_str(text).map_err(|error| VocabularyError::Malformed(error.to_string()))?;
                Self::from_json(&json)
            }
        }
    }

    /// The vocabulary of a `tokenizer.json`: the model's entries, and the added tokens, which stand for their own text.
    fn from_json(json: &Value) -> Result<Self, VocabularyError> {
        let alphabet = alphabet_of(&json["decoder"]).ok_or(VocabularyError::Decoder)?;
        let mut by_id: HashMap<TokenId, &str> = HashMap::new();
        let (mut plain, mut controls) = (HashSet::new(), HashSet::new());
        for (entry, id) in model_entries(&json["model"]["vocab"])? {
            by_id.insert(id, entry);
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let (Some(id), Some(text)) = (token_id(&token["id"]), token["content"].as_str()) else {
                return Err(VocabularyError::Malformed("an added token lacks id or content".to_owned()));
            };
            by_id.insert(id, text);
            plain.insert(id);
            if token["special"] == true {
                controls.insert(id);
            }
        }
        let num_entries = by_id.keys().max().map_or(0, |&id| id as usize + 1);
        // Holes cost a word each, so that a stray id cannot ask for memory without end.
        if num_entries > MAX_ENTRIES {
            let reason = format!("it has the id {}; at most {MAX_ENTRIES} are supported", num_entries - 1);
            return Err(VocabularyError::Malformed(reason));
        }
        let entries = (0..num_entries).map(|id| by_id.get(&(id as TokenId)).copied().unwrap_or_default());
        Ok(Self::new(entries, alphabet, &plain, controls))
    }

    /// A vocabulary from entries in order of id. Control tokens stand for their own text.
    fn new<'a>(
        entries: impl Iterator<Item = &'a str>,
        alphabet: Alphabet,
        plain: &HashSet<TokenId>,
        controls: HashSet<TokenId>,
    ) -> Self {
        let byte_of = byte_level_alphabet();
        let (mut arena, mut ends, mut longest_bytes) = (Vec::new(), Vec::new(), 0);
        for (id, entry) in (0..).zip(entries) {
            let start = arena.len();
            if controls.contains(&id) || plain.contains(&id) {
                arena.extend_from_slice(entry.as_bytes());
            } else {
                match alphabet {
                    Alphabet::ByteLevel => push_byte_level(entry, &byte_of, &mut arena),
                    Alphabet::SentencePiece => push_sentence_piece(entry, &mut arena),
                }
            }
            longest_bytes = longest_bytes.max(arena.len() - start);
            ends.push(u32::try_from(arena.len()).expect("a vocabulary is far smaller than 4 GiB"));
        }
        Self { arena, ends, controls, longest_bytes }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes that a token stands for; of a control token, its name. Empty for an id outside the vocabulary.
    #[must_use]
    pub fn bytes(&self, id: TokenId) -> &[u8] {
        let index = id as usize;
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.arena[start as usize..end as usize]
    }

    /// Whether the token steers the model and is not part of the text.
    #[must_use]
    pub fn is_control(&self, id: TokenId) -> bool {
        self.controls.contains(&id)
    }

    /// Length of the longest token. A text of more than `n` times this many bytes cannot be encoded in `n` tokens.
    #[must_use]
    pub const fn longest_bytes(&self) -> usize {
        self.longest_bytes
    }

    /// The text of a token by itself; bytes that are no character by themselves show as U+FFFD.
    #[must_use]
    pub fn text(&self, id: TokenId) -> String {
        String::from_utf8_lossy(self.bytes(id)).into_owned()
    }
}

/// The entries of a model's vocabulary: an object from text to id, or a list of pairs of text and score in order of id.
fn model_entries(vocab: &Value) -> Result<Vec<(&str, TokenId)>, VocabularyError> {
    let entries: Option<Vec<_>> = match vocab {
        Value::Object(entries) => entries.iter().map(|(text, id)| Some((text.as_str(), token_id(id)?))).collect(),
        Value::Array(pairs) => (0..).zip(pairs).map(|(id, pair)| Some((pair[0].as_str()?, id))).collect(),
        _ => None,
    };
    entries.ok_or_else(|| VocabularyError::Malformed("model.vocab maps no texts to ids".to_owned()))
}

fn token_id(value: &Value) -> Option<TokenId> {
    TokenId::try_from(value.as_u64()?).ok()
}

/// How a decoder, or the first of a sequence that says so, turns entries into bytes.
fn alphabet_of(decoder: &Value) -> Option<Alphabet> {
    match decoder["type"].as_str()? {
        "ByteLevel" => Some(Alphabet::ByteLevel),
        "ByteFallback" | "Metaspace" => Some(Alphabet::SentencePiece),
        "Sequence" => decoder["decoders"].as_array()?.iter().find_map(alphabet_of),
        _ => None,
    }
}

/// Which byte each character of GPT-2's byte-level alphabet stands for: printable Latin-1 characters stand for
/// themselves, all other bytes for the characters from U+0100 on, in order.
fn byte_level_alphabet() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut shifted = '\u{100}'..;
    (0..=u8::MAX)
        .map(|byte| {
            let character = if printable(byte) { Some(char::from(byte)) } else { shifted.next() };
            (character.expect("256 characters follow U+0100"), byte)
        })
        .collect()
}

fn push_byte_level(entry: &str, byte_of: &HashMap<char, u8>, arena: &mut Vec<u8>) {
    for character in entry.chars() {
        match byte_of.get(&character) {
            Some(&byte) => arena.push(byte),
            // Not of the alphabet, so the entry was added as plain text.
            None => arena.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn push_sentence_piece(entry: &str, arena: &mut Vec<u8>) {
    let byte = entry.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|hex| hex.len() == 2);
    match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => arena.push(byte),
        None => arena.extend_from_slice(entry.replace('▁', " ").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_entries_stand_for_their_bytes() {
        let entries = ["<|end|>", "Ġhello", "Ã©", "Ċ", "<tool>"];
        let vocabulary =
            Vocabulary::new(entries.into_iter(), Alphabet::ByteLevel, &HashSet::from([4]), HashSet::from([0]));
        assert_eq!(vocabulary.bytes(0), b"<|end|>");
        assert_eq!(vocabulary.bytes(1), b" hello");
        assert_eq!(vocabulary.bytes(2), "é".as_bytes());
        assert_eq!(vocabulary.bytes(3), b"\n");
        assert_eq!(vocabulary.bytes(4), b"<tool>");
        assert_eq!(vocabulary.bytes(5), b"");
        assert!(vocabulary.is_control(0) && !vocabulary.is_control(1));
        assert_eq!(vocabulary.longest_bytes(), 7);
    }

    #[test]
    fn sentence_piece_entries_stand_for_their_text_or_one_byte() {
        let entries = ["▁hello", "<0x0A>", "<0xZZ>", "<0xé>"];
        let vocabulary = Vocabulary::new(entries.into_iter(), Alphabet::SentencePiece, &HashSet::new(), HashSet::new());
        assert_eq!(vocabulary.bytes(0), b" hello");
        assert_eq!(vocabulary.bytes(1), b"\n");
        assert_eq!(vocabulary.bytes(2), b"<0xZZ>");
        assert_eq!(vocabulary.bytes(3), "<0xé>".as_bytes());
    }

    #[test]
    fn a_tokenizer_json_names_added_tokens_by_their_text() {
        let json = serde_json::json!({
            "model": {"type": "BPE", "vocab": {"Ġa": 0, "Ċ": 1}},
            "added_tokens": [{"id": 2, "content": "<Ġ>", "special": false}, {"id": 4, "content": "<end>", "special": true}],
            "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteLevel"}]},
        });
        let vocabulary = Vocabulary::of(&TokenizerSpec::TokenizerJson(json.to_string())).unwrap();
        let bytes: Vec<&[u8]> = (0..5).map(|id| vocabulary.bytes(id)).collect();
        assert_eq!(bytes, [b" a", b"\n".as_slice(), "<Ġ>".as_bytes(), b"", b"<end>"]);
        assert!(vocabulary.is_control(4) && !vocabulary.is_control(2));
    }

    #[test]
    fn a_tokenizer_json_that_is_none_is_refused() {
        let of = |json: Value| Vocabulary::of(&TokenizerSpec::TokenizerJson(json.to_string())).err().unwrap();
        let byte_level = serde_json::json!({"type": "ByteLevel"});
        let strange = serde_json::json!({"type": "WordPiece"});
        assert_eq!(of(serde_json::json!({"model": {"vocab": {}}, "decoder": strange})), VocabularyError::Decoder);
        for (vocab, added) in [
            (serde_json::json!(7), serde_json::json!([])),
            (serde_json::json!({"a": "b"}), serde_json::json!([])),
            (serde_json::json!([["a", 0.5], 7]), serde_json::json!([])),
            (serde_json::json!({}), serde_json::json!([{"id": 4_000_000_000u32, "content": "x"}])),
            (serde_json::json!({}), serde_json::json!([{"content": "x"}])),
        ] {
            let json = serde_json::json!({"model": {"vocab": vocab}, "added_tokens": added, "decoder": byte_level});
            assert!(matches!(of(json), VocabularyError::Malformed(_)));
        }
    }

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let alphabet = byte_level_alphabet();
        assert_eq!(alphabet.len(), 256);
        assert_eq!(alphabet[&'Ġ'], b' ');
        assert_eq!(alphabet[&'Ċ'], b'\n');
        assert_eq!(alphabet[&'ÿ'], 0xFF);
    }
}
