//! The grammar machinery under one answer: what panics in it stays in it, and what it holds is counted.

use std::panic::AssertUnwindSafe;

use llguidance::api::StopReason;
use llguidance::toktrie::SimpleVob;
use llguidance::{TokenParser, panic_utils};
use souk_protocol::TokenId;

/// What a part of a rule takes that the answer so far may be in the middle of: 8 bytes, in a list that is there twice
/// over while it doubles.
const ITEM_BYTES: usize = 24;
/// What a byte of the answer takes: where the lexer stood, the row of the parser, the text itself.
const TEXT_BYTES: usize = 96;

/// A parser and where it stands. After an error it is of no more use.
pub(super) struct Machine {
    parser: TokenParser,
    /// Parts of rules that are kept of the answer so far.
    num_items: usize,
    error: Option<String>,
}

impl Machine {
    /// At the begin of an answer.
    pub(super) fn new(mut parser: TokenParser) -> Self {
        if parser.is_fresh() {
            parser.start_without_prompt();
        }
        Self { parser, num_items: 0, error: None }
    }

    /// A machine that stands there too and shares nothing with this one.
    pub(super) fn copied(&self) -> Self {
        Self { parser: self.parser.deep_clone(), num_items: self.num_items, error: self.error.clone() }
    }

    /// The tokens that may come next; those that end an answer where nothing else may.
    ///
    /// # Errors
    /// What the machinery says.
    pub(super) fn mask(&mut self) -> Result<SimpleVob, String> {
        self.within(|parser| match parser.stop_reason() {
            StopReason::NotStopped => parser.compute_mask(),
            _ => Ok(parser.token_env.tok_trie().eos_token_set()),
        })
    }

    /// Moves on by a token that is known to be allowed.
    ///
    /// # Errors
    /// What the machinery says.
    pub(super) fn consume(&mut self, token: TokenId) -> Result<(), String> {
        let before = self.parser.parser_stats().all_items;
        self.within(|parser| {
            let num_back = parser.consume_token(token)?;
            anyhow::ensure!(num_back == 0, "unexpected backtracking");
            parser.check_stop().map(|_| ())
        })?;
        self.num_items += self.parser.parser_stats().all_items.saturating_sub(before);
        Ok(())
    }

    /// Moves on by a token if it is allowed, and says whether it was.
    ///
    /// # Errors
    /// What the machinery says.
    pub(super) fn try_consume(&mut self, token: TokenId) -> Result<bool, String> {
        let is_allowed = self.within(|parser| parser.validate_token(token))?;
        if is_allowed {
            self.consume(token)?;
        }
        Ok(is_allowed)
    }

    /// Whether the answer may end here.
    ///
    /// # Errors
    /// What the machinery says.
    pub(super) fn is_accepting(&mut self) -> Result<bool, String> {
        self.within(|parser| Ok(parser.is_accepting()))
    }

    /// Whether nothing but the end of the answer may follow.
    pub(super) fn is_complete(&self) -> bool {
        self.error.is_none() && self.parser.stop_reason() != StopReason::NotStopped
    }

    pub(super) fn stop_reason(&self) -> StopReason {
        if self.error.is_some() { StopReason::InternalError } else { self.parser.stop_reason() }
    }

    /// Memory of its lexer, roughly.
    pub(super) fn lexer_bytes(&self) -> usize {
        // A panic leaves a lock behind that cannot be taken again.
        if self.error.is_some() { 0 } else { self.parser.parser.lexer_stats().num_bytes }
    }

    /// Memory that it has for itself, roughly.
    pub(super) fn size_bytes(&self) -> usize {
        self.lexer_bytes() + ITEM_BYTES * self.num_items + TEXT_BYTES * self.parser.final_bytes().len()
    }

    fn within<T>(&mut self, work: impl FnOnce(&mut TokenParser) -> anyhow::Result<T>) -> Result<T, String> {
        if let Some(error) = &self.error {
            return Err(error.clone());
        }
        let parser = &mut self.parser;
        panic_utils::catch_unwind(AssertUnwindSafe(|| work(parser)))
            .map_err(|error| self.error.insert(error.to_string()).clone())
    }
}
