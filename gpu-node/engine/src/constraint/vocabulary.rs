//! The base model's vocabulary as the grammar machinery wants it: a trie of bytes.

use std::sync::Arc;

use llguidance::ParserFactory;
use llguidance::api::ParserLimits;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{ApproximateTokEnv, InferenceCapabilities, TokRxInfo, TokTrie};
use souk_protocol::{BaseModel, ConstraintLimits, TokenId, Vocabulary};

use super::error::ConstraintError;

/// What one grammar may use. Work and items are counted, not timed, so a grammar is refused everywhere or nowhere. What
/// the counts mean in time is measured in docs/constraints.md.
fn parser_limits(limits: &ConstraintLimits) -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: limits.max_compile_work,
        step_lexer_fuel: limits.max_mask_work,
        // Parts of rules that a mask tries; some 4 ms.
        step_max_items: 10_000,
        // Ways in which the answer so far can be read. An object of 250 optional properties needs a thousand; moving
        // such an answer on by a token takes up to 7 ms.
        max_items_in_row: 1_000,
        // Each takes 1 to 2 kB, and every answer has its own.
        max_lexer_states: 10_000,
        max_grammar_size: 100_000,
        // It makes masks of huge regular expressions cheaper, at seconds of compiling.
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// Prepares the vocabulary: about 0.2 s and 16 MiB for 49,152 tokens, most of it tries of the tokens that may stand in
/// JSON strings.
pub(super) fn prepare(base: &BaseModel, limits: &ConstraintLimits) -> Result<ParserFactory, ConstraintError> {
    let internal = |error: String| ConstraintError::Internal(format!("the vocabulary cannot be prepared: {error}"));
    let vocabulary = Vocabulary::of(&base.tokenizer).map_err(|error| internal(error.to_string()))?;
    let Some(&first_eos) = base.eos_tokens.first() else {
        return Err(internal("the model has no token that ends an answer".to_owned()));
    };
    // The head may have more rows than the tokenizer has entries; those without bytes are never allowed.
    let num_tokens = vocabulary.len().max(base.shape.vocab_size);
    let words: Vec<Vec<u8>> = (0..num_tokens as TokenId).map(|id| word(&vocabulary, id)).collect();
    let trie = TokTrie::from(&TokRxInfo::new(num_tokens as u32, first_eos), &words).with_eos_tokens(&base.eos_tokens);
    let tokens = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory =
        ParserFactory::new(&(tokens as _), InferenceCapabilities::default(), &SlicedBiasComputer::json_slices())
            .map_err(|error| internal(error.to_string()))?;
    factory.quiet();
    *factory.limits_mut() = parser_limits(limits);
    Ok(factory)
}

/// Bytes of a token. Control tokens get a byte before their names that no text has, so that only a grammar that names
/// one allows it.
fn word(vocabulary: &Vocabulary, id: TokenId) -> Vec<u8> {
    let bytes = vocabulary.bytes(id);
    if vocabulary.is_control(id) { [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat() } else { bytes.to_vec() }
}
