//! A byte-level BPE by words: what the tokenizer library answers, at a twentieth of its time.
//!
//! The library keeps for each character where it came from, which nobody here asks, and that is most of its time. Here a text is
//! cut into words by the same rules, and what a word is encoded as is remembered; a word that is not remembered is the library's
//! to encode. Texts are other people's, so what is remembered is bounded, and hashed so that nobody can choose collisions.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use regex::Regex;
use souk_protocol::TokenId;
use tokenizers::{Model as _, ModelWrapper};

/// Most words that are remembered: some 10 MB. Past it, all are forgotten.
const MOST_WORDS: usize = 1 << 16;
/// Longest word that is, in bytes.
const LONGEST_WORD: usize = 48;
/// Most new words of one text that are remembered.
const MOST_NEW_WORDS: usize = MOST_WORDS / 16;

/// GPT-2's words (openai/gpt-2, `encoder.py`), without the look-ahead: see [`Cut::first_end`].
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

/// How a text is cut into pieces, and these into words.
pub(super) struct Cut {
    /// Each digit is a piece of its own, and so is what is between digits. Words end where pieces do.
    digits_alone: bool,
    /// What begins a piece, as long as a word.
    word: Regex,
    /// White space that ends in a line's end has an alternative of its own.
    takes_lines: bool,
}

/// Encodes texts.
pub(super) struct Words {
    cut: Cut,
    /// Characters that stand for bytes in the vocabulary.
    of_bytes: [char; 256],
    known: RwLock<HashMap<Box<str>, Box<[TokenId]>>>,
}

impl Cut {
    /// By the alternatives of a word, of which the last is `\s+` and stands for `\s+(?!\S)|\s+`.
    pub(super) fn new(word: &str, digits_alone: bool) -> Self {
        let takes_lines = word.contains(r"|\s*[\r\n]+|");
        let word = Regex::new(&format!("^(?:{word})")).expect("the rules are patterns");
        Self { digits_alone, word, takes_lines }
    }

    fn for_each_word<'a, E>(&self, text: &'a str, mut act: impl FnMut(&'a str) -> Result<(), E>) -> Result<(), E> {
        let mut words_of = |mut piece: &'a str| {
            while !piece.is_empty() {
                let (word, rest) = piece.split_at(self.first_end(piece));
                act(word)?;
                piece = rest;
            }
            Ok(())
        };
        if !self.digits_alone {
            return words_of(text);
        }
        let mut from = 0;
        for (at, digit) in text.match_indices(char::is_numeric) {
            words_of(&text[from..at])?;
            words_of(digit)?;
            from = at + digit.len();
        }
        words_of(&text[from..])
    }

    /// Where the first word of a piece ends. White space before something else leaves its last character to that, if it has
    /// others: so says `\s+(?!\S)` in the rules.
    fn first_end(&self, piece: &str) -> usize {
        // The alternatives cover every character.
        let Some(word) = self.word.find(piece) else { return piece.len() };
        let (word, end) = (word.as_str(), word.end());
        if end == piece.len() || !word.chars().all(char::is_whitespace) {
            return end;
        }
        let last = word.chars().next_back().unwrap_or_default();
        let is_lines = self.takes_lines && matches!(last, '\r' | '\n');
        if is_lines || end == last.len_utf8() { end } else { end - last.len_utf8() }
    }
}

impl Words {
    pub(super) fn new(cut: Cut) -> Self {
        Self { cut, of_bytes: characters_of_bytes(), known: RwLock::default() }
    }

    /// Puts the ids of a text behind `ids`.
    ///
    /// # Errors
    /// The library's, for no text with a sound model.
    pub(super) fn encode_onto(
        &self,
        model: &ModelWrapper,
        text: &str,
        ids: &mut Vec<TokenId>,
    ) -> tokenizers::Result<()> {
        let mut unknown: Vec<(&str, Box<[TokenId]>)> = Vec::new();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        self.cut.for_each_word(text, |word| {
            if let Some(of_word) = known.get(word) {
                ids.extend_from_slice(of_word);
                return Ok(());
            }
            let of_word = self.encode_word(model, word)?;
            ids.extend_from_slice(&of_word);
            if word.len() <= LONGEST_WORD && unknown.len() < MOST_NEW_WORDS {
                unknown.push((word, of_word));
            }
            tokenizers::Result::Ok(())
        })?;
        drop(known);
        if !unknown.is_empty() {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.len() + unknown.len() > MOST_WORDS {
                known.clear();
            }
            known.extend(unknown.into_iter().map(|(word, of_word)| (word.into(), of_word)));
        }
        Ok(())
    }

    fn encode_word(&self, model: &ModelWrapper, word: &str) -> tokenizers::Result<Box<[TokenId]>> {
        let of_bytes: String = word.bytes().map(|byte| self.of_bytes[usize::from(byte)]).collect();
        Ok(model.tokenize(&of_bytes)?.into_iter().map(|token| token.id).collect())
    }
}

/// GPT-2's characters for bytes: those that can be seen stand for themselves, the others in their order from U+0100 on.
fn characters_of_bytes() -> [char; 256] {
    let mut hidden = (0x100_u32..).filter_map(char::from_u32);
    std::array::from_fn(|byte| match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte as u8),
        _ => hidden.next().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(cut: &Cut, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let Ok(()) = cut.for_each_word(text, |word| {
            words.push(word.to_owned());
            Ok::<_, std::convert::Infallible>(())
        });
        words
    }

    #[test]
    fn white_space_leaves_its_last_character_to_what_follows() {
        let gpt2 = Cut::new(GPT2, false);
        assert_eq!(words(&gpt2, "a   b \n\nc\n"), ["a", "  ", " b", " \n", "\n", "c", "\n"]);
        assert_eq!(words(&gpt2, "we're  12 x!?  "), ["we", "'re", " ", " 12", " x", "!?", "  "]);
        let by_digits = Cut::new(GPT2, true);
        assert_eq!(words(&by_digits, "a  12 x"), ["a", "  ", "1", "2", " x"]);
    }

    #[test]
    fn bytes_have_the_characters_of_gpt2() {
        let of_bytes = characters_of_bytes();
        assert_eq!((of_bytes[0], of_bytes[b' ' as usize], of_bytes[b'\n' as usize]), ('Ā', 'Ġ', 'Ċ'));
        assert_eq!((of_bytes[b'a' as usize], of_bytes[0xAD], of_bytes[0xFF]), ('a', 'Ń', 'ÿ'));
        let all: std::collections::HashSet<_> = of_bytes.into_iter().collect();
        assert_eq!(all.len(), 256);
    }
}
