//! The text of one reply, and the tokens that belong to it.

use std::collections::VecDeque;
use std::sync::Arc;

use souk_protocol::{TokenId, TokenOut};

use super::piece::{Piece, Scored};
use super::rules::ReplyRules;
use crate::served::ServedBase;
use crate::text::{Detokenizer, StopMatcher};

/// Turns tokens into text, ends at a stop string, and hands out each scored token with the text that it belongs to.
pub(crate) struct ReplyText {
    base: Arc<ServedBase>,
    eos_tokens: Vec<TokenId>,
    score_ending: bool,
    detokenizer: Detokenizer,
    /// The characters of the token at hand.
    decoded: String,
    stops: StopMatcher,
    /// Length of the text that was decoded and of that which is certain, in bytes.
    num_decoded: usize,
    num_certain: usize,
    /// Certain text that was not taken yet.
    text: String,
    /// Tokens that were not taken yet, with the place in the text where each begins.
    tokens: VecDeque<(usize, Scored)>,
    /// The text is complete, so all its tokens are certain.
    complete: bool,
}

impl ReplyText {
    pub(crate) fn new(rules: &ReplyRules<'_>) -> Self {
        Self {
            base: Arc::clone(rules.base),
            eos_tokens: rules.eos_tokens.to_vec(),
            score_ending: rules.score_ending,
            detokenizer: Detokenizer::default(),
            decoded: String::new(),
            stops: StopMatcher::new(rules.stops.to_vec()),
            num_decoded: 0,
            num_certain: 0,
            text: String::new(),
            tokens: VecDeque::new(),
            complete: false,
        }
    }

    /// Takes a token; returns whether a stop string is complete. Push nothing after that.
    pub(crate) fn push(&mut self, token: TokenOut) -> bool {
        let vocabulary = self.base.tokenizer.vocabulary();
        let ends = self.eos_tokens.contains(&token.id);
        if let Some(logprobs) = token.logprobs
            && (!ends || self.score_ending)
        {
            self.tokens.push_back((self.num_decoded, Scored { id: token.id, logprobs }));
        }
        if ends || vocabulary.is_control(token.id) {
            return false;
        }
        self.detokenizer.push(vocabulary.bytes(token.id), &mut self.decoded);
        self.match_stops()
    }

    /// The model ended the answer.
    pub(crate) fn finish(&mut self) {
        self.detokenizer.finish(&mut self.decoded);
        if !self.match_stops() {
            let before = self.text.len();
            self.stops.finish(&mut self.text);
            self.num_certain += self.text.len() - before;
            self.complete = true;
        }
    }

    /// What became certain since the last call.
    pub(crate) fn take(&mut self) -> Option<Piece> {
        let is_certain = |start: usize| self.complete || start < self.num_certain;
        let num_tokens = self.tokens.iter().take_while(|(start, _)| is_certain(*start)).count();
        if self.text.is_empty() && num_tokens == 0 {
            return None;
        }
        let tokens = self.tokens.drain(..num_tokens).map(|(_, token)| token).collect();
        Some(Piece::Delta { text: std::mem::take(&mut self.text), tokens })
    }

    /// Makes of what was decoded what is certain; returns whether a stop string is complete.
    fn match_stops(&mut self) -> bool {
        self.num_decoded += self.decoded.len();
        let before = self.text.len();
        let stopped = self.stops.push(&self.decoded, &mut self.text);
        self.decoded.clear();
        self.num_certain += self.text.len() - before;
        stopped
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::TokenLogprobs;

    use super::*;
    use crate::limits::GatewayLimits;
    use crate::testing::tiny::{END, tiny_base};

    fn base() -> Arc<ServedBase> {
        Arc::new(ServedBase::new(&tiny_base(), &GatewayLimits::default()).unwrap())
    }

    fn answer(base: &Arc<ServedBase>, stops: &[&str], score_ending: bool) -> ReplyText {
        let stops: Vec<String> = stops.iter().map(|&stop| stop.to_owned()).collect();
        ReplyText::new(&ReplyRules {
            base,
            stops: &stops,
            eos_tokens: &[END],
            score_ending,
            num_prompt_tokens: 1,
            prompt_logprobs: false,
        })
    }

    fn scored(id: TokenId) -> TokenOut {
        TokenOut { id, logprobs: Some(TokenLogprobs { logprob: -0.5, top: Vec::new() }) }
    }

    fn taken(text: &mut ReplyText) -> Option<(String, usize)> {
        text.take().map(|piece| match piece {
            Piece::Delta { text, tokens } => (text, tokens.len()),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn tokens_come_out_with_their_text() {
        let base = base();
        let mut text = answer(&base, &[], false);
        let ids = base.tokenizer.encode("hello é").unwrap();
        assert_eq!(ids.len(), 4);
        for (id, expected) in ids.into_iter().zip([Some(("hello", 1)), Some((" ", 1)), None, Some(("é", 2))]) {
            assert!(!text.push(scored(id)));
            assert_eq!(taken(&mut text), expected.map(|(text, num)| (text.to_owned(), num)));
        }
        text.push(scored(END));
        text.finish();
        assert_eq!(taken(&mut text), None);
    }

    #[test]
    fn what_lies_beyond_a_stop_string_is_dropped_with_its_tokens() {
        let base = base();
        let mut text = answer(&base, &["lo w"], false);
        let ids = base.tokenizer.encode("say he").unwrap();
        for id in ids {
            assert!(!text.push(scored(id)));
        }
        for byte in ["l", "l", "o", " "] {
            assert!(!text.push(scored(base.tokenizer.encode(byte).unwrap()[0])));
        }
        let (shown, num_tokens) = taken(&mut text).unwrap();
        assert_eq!(shown, "say hel");
        assert_eq!(num_tokens, 6);
        assert!(text.push(scored(base.tokenizer.encode("w").unwrap()[0])));
        assert_eq!(taken(&mut text), None);
    }

    #[test]
    fn the_ending_token_is_scored_where_that_is_asked_for() {
        let base = base();
        for (score_ending, expected) in [(false, None), (true, Some((String::new(), 1)))] {
            let mut text = answer(&base, &[], score_ending);
            text.push(scored(END));
            text.finish();
            assert_eq!(taken(&mut text), expected);
        }
    }

    #[test]
    fn a_character_that_stays_incomplete_is_replaced_at_the_end() {
        let base = base();
        let mut text = answer(&base, &[], false);
        let first_byte = base.tokenizer.encode("é").unwrap()[0];
        text.push(scored(first_byte));
        assert_eq!(taken(&mut text), None);
        text.finish();
        assert_eq!(taken(&mut text), Some(("\u{FFFD}".to_owned(), 1)));
    }
}
