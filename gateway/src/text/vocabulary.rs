//! What each token id stands for, in bytes.

use std::collections::{HashMap, HashSet};

use souk_protocol::TokenId;

/// The bytes of every token and which of them are control tokens.
pub struct Vocabulary {
    /// All tokens' bytes, one after the other.
    arena: Vec<u8>,
    /// Where each token ends in the arena.
    ends: Vec<u32>,
    controls: HashSet<TokenId>,
    longest_bytes: usize,
}

/// How the text of a vocabulary entry stands for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alphabet {
    /// One character per byte, after GPT-2.
    ByteLevel,
    /// Text with `▁` for a space and `<0xAB>` for single bytes, after SentencePiece.
    SentencePiece,
}

impl Vocabulary {
    /// A vocabulary from entries in order of id. Control tokens stand for their own text.
    pub(crate) fn new<'a>(
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
    fn every_byte_has_a_character_of_its_own() {
        let alphabet = byte_level_alphabet();
        assert_eq!(alphabet.len(), 256);
        assert_eq!(alphabet[&'Ġ'], b' ');
        assert_eq!(alphabet[&'Ċ'], b'\n');
        assert_eq!(alphabet[&'ÿ'], 0xFF);
    }
}
