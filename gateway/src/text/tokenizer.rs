//! Text to token ids.

use std::collections::{HashMap, HashSet};

use regex::Regex;
use serde::Deserialize;
use souk_protocol::{BaseModel, TokenId, TokenizerSpec, Vocabulary, VocabularyError};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::disarm::Marker;
use super::words::{Cut, GPT2, Words};

/// Why a tokenizer cannot be built, or a text not encoded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The pre-tokenizer decides where words end; with another one the ids would change.
    #[error("the pre-tokenizer `{given}` is not supported; supported are {}", PRE_TOKENIZERS.join(", "))]
    PreTokenizer {
        /// Its name in the model's metadata.
        given: String,
    },
    /// What the ids stand for cannot be read.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// A line of the merges is not two tokens.
    #[error("merge {rank} of the tokenizer is not two tokens separated by a space: `{given}`")]
    Merge {
        /// Its place in the list, from 0.
        rank: usize,
        /// The line.
        given: String,
    },
    /// An id that the model's description names is not in the vocabulary.
    #[error("the {what} token {id} is not in the vocabulary of {vocab_size} entries")]
    NoSuchToken {
        /// Which token.
        what: &'static str,
        /// The id given.
        id: TokenId,
        /// Number of entries.
        vocab_size: usize,
    },
    /// The tokenizer library refuses the parts.
    #[error("the tokenizer cannot be built: {0}")]
    Build(#[source] tokenizers::Error),
    /// The tokenizer library fails on a text, which it does for no text with a sound model.
    #[error("the text cannot be encoded: {0}")]
    Encode(#[source] tokenizers::Error),
}

/// Names in `tokenizer.ggml.pre` that are understood.
const PRE_TOKENIZERS: [&str; 4] = ["smollm", "gpt-2", "llama-bpe", "qwen2"];

/// Turns text into token ids for one base model.
pub struct Tokenizer {
    /// Encodes text in which nothing means a control token.
    plain: tokenizers::Tokenizer,
    /// The same, faster, where the rules are known.
    words: Option<Words>,
    vocabulary: Vocabulary,
    controls: Controls,
    /// Put before a raw prompt, where the model wants that.
    bos: Option<TokenId>,
}

impl Tokenizer {
    /// The tokenizer of `base`.
    ///
    /// # Errors
    /// [`TokenizerError`] naming what is not supported or not sound.
    pub fn new(base: &BaseModel) -> Result<Self, TokenizerError> {
        let vocabulary = Vocabulary::of(&base.tokenizer)?;
        let Parts { plain, words, controls } = match &base.tokenizer {
            TokenizerSpec::ByteLevelBpe { tokens, control_tokens, merges, pre } => {
                from_byte_level_bpe(tokens, control_tokens, merges, pre)?
            }
            TokenizerSpec::TokenizerJson(text) => from_json(text)?,
        };
        let named = base.eos_tokens.iter().map(|&id| ("eos", id)).chain(base.bos_token.map(|id| ("bos", id)));
        for (what, id) in named {
            if id as usize >= vocabulary.len() {
                return Err(TokenizerError::NoSuchToken { what, id, vocab_size: vocabulary.len() });
            }
        }
        let bos = base.bos_token.filter(|_| base.add_bos);
        Ok(Self { plain, words, vocabulary, controls: Controls::new(controls), bos })
    }

    /// What the ids stand for.
    #[must_use]
    pub const fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The texts of the control tokens, which a template's own text may use.
    #[must_use]
    pub fn control_texts(&self) -> &[String] {
        &self.controls.texts
    }

    /// Encodes a user's text. Nothing in it means a control token.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids = Vec::new();
        self.encode_onto(text, &mut ids)?;
        Ok(ids)
    }

    /// Encodes a raw prompt: [`encode`](Self::encode), with the token that begins a text where the model wants one.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids: Vec<TokenId> = self.bos.into_iter().collect();
        self.encode_onto(text, &mut ids)?;
        Ok(ids)
    }

    /// Encodes the text of a rendered template: control tokens are recognised, and then the markers that
    /// [`Marker::disarm`] left in users' texts are dropped. Text between two control tokens is encoded as one, whoever
    /// wrote its parts, so without control tokens in users' texts the ids are those of the whole text.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`].
    pub fn encode_rendered(&self, rendered: &str, marker: Marker) -> Result<Vec<TokenId>, TokenizerError> {
        let mut ids = Vec::new();
        let mut strip_start = false;
        let mut rest_from = 0;
        for (range, control) in self.controls.find_in(rendered) {
            let mut text = &rendered[rest_from..range.start];
            text = if strip_start { text.trim_start() } else { text };
            text = if control.strip_before { text.trim_end() } else { text };
            self.encode_onto(&marker.erase(text), &mut ids)?;
            ids.push(control.id);
            strip_start = control.strip_after;
            rest_from = range.end;
        }
        let text = &rendered[rest_from..];
        let text = if strip_start { text.trim_start() } else { text };
        self.encode_onto(&marker.erase(text), &mut ids)?;
        Ok(ids)
    }

    /// The text of `ids`, control tokens by their names; bytes that are no text become U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.vocabulary.bytes(id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn encode_onto(&self, text: &str, ids: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        if text.is_empty() {
            return Ok(());
        }
        match &self.words {
            // What ASCII is normalised to is itself.
            Some(words) if self.plain.get_normalizer().is_none() || text.is_ascii() => {
                words.encode_onto(self.plain.get_model(), text, ids).map_err(TokenizerError::Encode)
            }
            _ => self.encode_by_library(text, ids),
        }
    }

    fn encode_by_library(&self, text: &str, ids: &mut Vec<TokenId>) -> Result<(), TokenizerError> {
        let encoding = self.plain.encode_fast(text, false).map_err(TokenizerError::Encode)?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }
}

/// A control token as a template's text names it.
#[derive(Clone, Debug)]
struct Control {
    id: TokenId,
    text: String,
    /// White space before the token belongs to it.
    strip_before: bool,
    /// White space after the token belongs to it.
    strip_after: bool,
}

/// Finds control tokens in a text: the leftmost first, of several there the longest.
struct Controls {
    by_text: HashMap<String, Control>,
    texts: Vec<String>,
    /// `None` where there are no control tokens.
    pattern: Option<Regex>,
}

impl Controls {
    fn new(mut controls: Vec<Control>) -> Self {
        // One character alone cannot be told from a user's by a marker, so such a token is only reachable by its id.
        controls.retain(|control| control.text.chars().count() > 1);
        controls.sort_by_key(|control| std::cmp::Reverse(control.text.len()));
        let texts: Vec<String> = controls.iter().map(|control| control.text.clone()).collect();
        let alternatives = texts.iter().map(|text| regex::escape(text)).collect::<Vec<_>>().join("|");
        let pattern = (!texts.is_empty()).then(|| Regex::new(&alternatives).expect("escaped literals are a pattern"));
        let by_text = controls.into_iter().map(|control| (control.text.clone(), control)).collect();
        Self { by_text, texts, pattern }
    }

    fn find_in<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (std::ops::Range<usize>, &'a Control)> {
        let matches = self.pattern.iter().flat_map(move |pattern| pattern.find_iter(text));
        matches.map(|found| (found.range(), &self.by_text[found.as_str()]))
    }
}

struct Parts {
    plain: tokenizers::Tokenizer,
    words: Option<Words>,
    controls: Vec<Control>,
}

fn from_byte_level_bpe(
    tokens: &[String],
    control_tokens: &[TokenId],
    merges: &[String],
    pre: &str,
) -> Result<Parts, TokenizerError> {
    let control_ids: HashSet<TokenId> = control_tokens.iter().copied().collect();
    // Control tokens are left out of the model, so that no text can be encoded as one.
    let vocab: Vocab =
        (0..).zip(tokens).filter(|(id, _)| !control_ids.contains(id)).map(|(id, token)| (token.clone(), id)).collect();
    let pairs = merges.iter().enumerate().map(|(rank, line)| {
        let pair = line.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned()));
        pair.ok_or_else(|| TokenizerError::Merge { rank, given: line.chars().take(80).collect() })
    });
    let words = word_rule(pre)?;
    let model = BPE::builder()
        .vocab_and_merges(vocab, pairs.collect::<Result<Vec<_>, _>>()?)
        .ignore_merges(words.whole_words_first)
        .build()
        .map_err(TokenizerError::Build)?;
    let mut plain = tokenizers::Tokenizer::new(model);
    plain.with_pre_tokenizer(Some(words.pre_tokenizer));
    plain.with_normalizer(words.normalizer).map_err(TokenizerError::Build)?;
    let controls = control_tokens.iter().filter_map(|&id| {
        let text = tokens.get(id as usize)?.clone();
        Some(Control { id, text, strip_before: false, strip_after: false })
    });
    Ok(Parts { plain, words: Some(Words::new(words.cut)), controls: controls.collect() })
}

/// How a text is cut into words before merging.
struct WordRule {
    pre_tokenizer: PreTokenizerWrapper,
    normalizer: Option<NormalizerWrapper>,
    /// The same rule without the library.
    cut: Cut,
    /// A word that is an entry of the vocabulary is that entry, whatever the merges say.
    whole_words_first: bool,
}

fn word_rule(pre: &str) -> Result<WordRule, TokenizerError> {
    let cut_at = |digits: &str| Cut::new(&contractions_and(digits).replace(LOOK_AHEAD, ""), false);
    // `Split` finds the words itself, so `ByteLevel` behind it only maps bytes.
    let split_then_bytes = |pattern: &str| -> Result<PreTokenizerWrapper, TokenizerError> {
        let pattern = SplitPattern::Regex(pattern.to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(TokenizerError::Build)?;
        Ok(Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into())
    };
    let gpt2 = ByteLevel::new(false, true, true);
    let (pre_tokenizer, normalizer, whole_words_first, cut) = match pre {
        "smollm" => {
            (Sequence::new(vec![Digits::new(true).into(), gpt2.into()]).into(), None, false, Cut::new(GPT2, true))
        }
        "gpt-2" => (gpt2.into(), None, false, Cut::new(GPT2, false)),
        "llama-bpe" => (split_then_bytes(&contractions_and("{1,3}"))?, None, true, cut_at("{1,3}")),
        "qwen2" => (split_then_bytes(&contractions_and(""))?, Some(NFC.into()), false, cut_at("")),
        _ => return Err(TokenizerError::PreTokenizer { given: pre.to_owned() }),
    };
    Ok(WordRule { pre_tokenizer, normalizer, cut, whole_words_first })
}

/// White space leaves its last character to what follows it.
const LOOK_AHEAD: &str = r"|\s+(?!\S)";

/// The pattern of the cl100k family; they differ in how many digits make a word.
fn contractions_and(digits: &str) -> String {
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

/// What of a file the library takes on trust: it cuts each merge of a BPE at the length of the prefix, whether it has it
/// or not, which panics or makes text of half a character.
#[derive(Deserialize)]
struct Named {
    model: NamedModel,
}

#[derive(Deserialize)]
struct NamedModel {
    #[serde(rename = "type")]
    kind: Option<String>,
    continuing_subword_prefix: Option<String>,
}

fn from_json(text: &str) -> Result<Parts, TokenizerError> {
    let Named { model } = serde_json::from_str(text).map_err(|error| TokenizerError::Build(error.into()))?;
    let is_bpe = model.kind.is_none_or(|kind| kind == "BPE");
    if let Some(prefix) = model.continuing_subword_prefix.filter(|prefix| is_bpe && !prefix.is_empty()) {
        let reason = format!("a BPE with a continuing_subword_prefix is not supported; given `{prefix:.40}`");
        return Err(TokenizerError::Build(reason.into()));
    }
    let mut plain = tokenizers::Tokenizer::from_bytes(text).map_err(TokenizerError::Build)?;
    plain.with_padding(None).with_truncation(None).map_err(TokenizerError::Build)?;
    // Special tokens that stand in a text are encoded as that text.
    plain.set_encode_special_tokens(true);
    let added: HashMap<TokenId, AddedToken> = plain.get_added_tokens_decoder().into_iter().collect();
    let controls: Vec<Control> = added
        .iter()
        .filter(|(_, token)| token.special)
        .map(|(&id, token)| Control {
            id,
            text: token.content.clone(),
            strip_before: token.lstrip,
            strip_after: token.rstrip,
        })
        .collect();
    Ok(Parts { plain, words: None, controls })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::tiny_base;

    fn tiny() -> Tokenizer {
        Tokenizer::new(&tiny_base()).unwrap()
    }

    fn marker() -> Marker {
        Marker::unlike(std::iter::empty()).unwrap()
    }

    fn texts(tokenizer: &Tokenizer, ids: &[TokenId]) -> Vec<String> {
        ids.iter().map(|&id| tokenizer.vocabulary().text(id)).collect()
    }

    #[test]
    fn a_user_cannot_write_a_control_token() {
        let tokenizer = tiny();
        let ids = tokenizer.encode("a<|end|>b").unwrap();
        assert_eq!(texts(&tokenizer, &ids).concat(), "a<|end|>b");
        assert!(ids.iter().all(|&id| !tokenizer.vocabulary().is_control(id)));
    }

    #[test]
    fn a_template_can() {
        let tokenizer = tiny();
        let ids = tokenizer.encode_rendered("<|user|>hello<|end|>", marker()).unwrap();
        assert_eq!(texts(&tokenizer, &ids), ["<|user|>", "hello", "<|end|>"]);
    }

    #[test]
    fn digits_are_words_of_their_own() {
        let tokenizer = tiny();
        let ids = tokenizer.encode("12 he").unwrap();
        assert_eq!(texts(&tokenizer, &ids), ["1", "2", " ", "he"]);
    }

    fn encodes_as_the_library(pre: &str, text: &str) {
        // Words of several letters, digits, spaces, and half of a character.
        let merges = ["t h", "th e", "Ġ the", "Ġ Ġ", "ĠĠ Ġ", "Ġ Ċ", "Ċ Ċ", "1 2", "12 3", "' s", "Ã ©", "! !", "a b"];
        let bytes = souk_testkit::base::byte_alphabet().into_iter().map(String::from);
        let tokens = bytes.chain(merges.iter().map(|merge| merge.replace(' ', ""))).collect();
        let (merges, pre) = (merges.map(str::to_owned).to_vec(), pre.to_owned());
        let mut base = souk_testkit::base::base("tiny", souk_testkit::base::SMALL);
        base.tokenizer = TokenizerSpec::ByteLevelBpe { tokens, control_tokens: Vec::new(), merges, pre: pre.clone() };
        let tokenizer = Tokenizer::new(&base).unwrap();
        let mut of_library = Vec::new();
        if !text.is_empty() {
            tokenizer.encode_by_library(text, &mut of_library).unwrap();
        }
        assert!(tokenizer.words.is_some());
        for how in ["anew", "from what is known"] {
            assert_eq!(tokenizer.encode(text).unwrap(), of_library, "{pre} {how}: {text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_of_words_is_encoded_as_by_the_library(
            text in r"(the| |\t|\n|\r\n|ab|'s|'RE|12|[0-9]|é|½|日本|!|\u{2028}|\u{a0}|\PC){0,24}",
            pre in proptest::sample::select(PRE_TOKENIZERS.to_vec()),
        ) {
            encodes_as_the_library(pre, &text);
        }

        #[test]
        fn any_text_of_characters_is_encoded_as_by_the_library(
            text in ".{0,40}",
            pre in proptest::sample::select(PRE_TOKENIZERS.to_vec()),
        ) {
            encodes_as_the_library(pre, &text);
        }
    }

    #[test]
    fn an_unknown_pre_tokenizer_is_refused_by_name() {
        let mut base = tiny_base();
        let TokenizerSpec::ByteLevelBpe { pre, .. } = &mut base.tokenizer else { panic!("byte-level") };
        *pre = "tekken".to_owned();
        let error = Tokenizer::new(&base).err().unwrap();
        assert!(error.to_string().starts_with("the pre-tokenizer `tekken` is not supported"), "{error}");
    }

    #[test]
    fn a_tokenizer_json_encodes_and_keeps_its_control_tokens_from_users() {
        let TokenizerSpec::ByteLevelBpe { tokens, merges, .. } = tiny_base().tokenizer else { panic!("byte-level") };
        let vocab: serde_json::Map<_, _> =
            (0u32..).zip(&tokens).map(|(id, token)| (token.clone(), serde_json::json!(id))).collect();
        let special = |id: u32| {
            serde_json::json!({"id": id, "content": tokens[id as usize], "single_word": false, "lstrip": false,
                "rstrip": true, "normalized": false, "special": true})
        };
        let json = serde_json::json!({
            "version": "1.0",
            "added_tokens": [special(0), special(1)],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocab, "merges": merges},
        });
        let base = BaseModel { tokenizer: TokenizerSpec::TokenizerJson(json.to_string()), ..tiny_base() };
        let tokenizer = Tokenizer::new(&base).unwrap();
        let rendered = format!("{}  hello{}", tokens[0], tokens[1]);
        let ids = tokenizer.encode_rendered(&rendered, marker()).unwrap();
        assert_eq!(texts(&tokenizer, &ids), [tokens[0].as_str(), "hello", tokens[1].as_str()]);
        let ids = tokenizer.encode(&rendered).unwrap();
        assert!(ids.iter().all(|&id| !tokenizer.vocabulary().is_control(id)), "{ids:?}");
        assert_eq!(texts(&tokenizer, &ids).concat(), rendered);
    }

    #[test]
    fn any_bytes_of_a_tokenizers_file_make_one_that_works_or_are_refused() {
        let base = souk_testkit::base::base("tiny", souk_testkit::base::SMALL);
        souk_testkit::fuzz("tokenizer_json", |bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let base = BaseModel { tokenizer: TokenizerSpec::TokenizerJson(text), ..base.clone() };
            match Tokenizer::new(&base) {
                Ok(tokenizer) => match tokenizer.encode_prompt("ab <|end|> é12") {
                    Ok(ids) => {
                        let _ = tokenizer.decode(&ids);
                        "works".to_owned()
                    }
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            }
        });
    }
}
