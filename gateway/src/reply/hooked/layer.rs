//! One hook around an answer: what it is given of it and when, and what goes on from it.

use std::sync::Arc;

use souk_plugins::words::{Answer, AnswerOutcome, Ending, Piece, Refusal, Step, Token};

use super::held::Held;
use crate::hooks::failure::HookEnd;
use crate::reply::piece::Scored;
use crate::served::ServedBase;

/// What a layer asks of its hook. `None` is a hook that failed where that is passed over: it acts on the answer no more.
pub(crate) trait After: Send {
    /// Takes a whole answer.
    fn answer(&mut self, answer: Answer) -> impl Future<Output = Result<Option<AnswerOutcome>, HookEnd>> + Send;
    /// Takes a piece of the stream, which begins with the first.
    fn push(&mut self, piece: Piece) -> impl Future<Output = Result<Option<Step>, HookEnd>> + Send;
    /// Ends the stream.
    fn finish(&mut self, ending: Ending) -> impl Future<Output = Result<Option<Step>, HookEnd>> + Send;
    /// What a refusal by it means for the request.
    fn refused(&mut self, refusal: Refusal) -> HookEnd;
}

/// How a hook takes an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Piece by piece, as they come.
    Pieces,
    /// All of it at once, by `answer`.
    Whole,
    /// All of it at once, as the only piece of a stream.
    OnePiece,
}

/// Text on its way, and the scored tokens that it is made of. No tokens: nobody wants them, or a hook has changed the text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Scored>,
}

/// What comes out of a layer.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) part: Part,
    /// The hook ended the answer with it.
    pub(super) is_last: bool,
}

/// A hook around an answer.
pub(crate) struct Layer<H> {
    hook: H,
    manner: Manner,
    /// Which of the request's answers it is, and what the hook's `prompt` left for it.
    index: u32,
    carry: Vec<u8>,
    /// Writes tokens out for the hook; `None` where nobody asked for logprobs.
    base: Option<Arc<ServedBase>>,
    /// What waits for the end, unless it goes through in pieces.
    kept: Part,
    /// What went in and has not come out.
    held: Held,
    /// Whether the text that came out is that of the tokens.
    is_as_written: bool,
    /// It failed, and was passed over.
    is_passed_by: bool,
}

impl Part {
    /// Nothing to hand on.
    pub(super) const fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.is_empty()
    }

    fn append(&mut self, more: Self) {
        self.text.push_str(&more.text);
        self.tokens.extend(more.tokens);
    }
}

impl<H: After> Layer<H> {
    pub(crate) fn new(hook: H, manner: Manner, index: u32, carry: Vec<u8>, base: Option<Arc<ServedBase>>) -> Self {
        Self {
            hook,
            manner,
            index,
            carry,
            base,
            kept: Part::default(),
            held: Held::default(),
            is_as_written: true,
            is_passed_by: false,
        }
    }

    /// Takes a part of the answer.
    pub(super) async fn push(&mut self, part: Part) -> Result<Out, HookEnd> {
        if self.is_passed_by {
            return Ok(Out { part, is_last: false });
        }
        match self.manner {
            Manner::Pieces => self.piece(part).await,
            Manner::Whole | Manner::OnePiece => {
                self.kept.append(part);
                Ok(Out::default())
            }
        }
    }

    /// The answer is over.
    pub(super) async fn finish(&mut self, ending: Ending) -> Result<Out, HookEnd> {
        if self.is_passed_by {
            return Ok(Out::default());
        }
        match self.manner {
            Manner::Pieces => self.end(ending).await,
            Manner::Whole => self.whole(ending).await,
            Manner::OnePiece => {
                let kept = std::mem::take(&mut self.kept);
                let mut out = self.piece(kept).await?;
                if !out.is_last && !self.is_passed_by {
                    let rest = self.end(ending).await?;
                    if !rest.part.is_empty() {
                        // What it held back of the text comes behind the tokens.
                        out.part.tokens.clear();
                    }
                    out.part.append(rest.part);
                    out.is_last = rest.is_last;
                }
                Ok(out)
            }
        }
    }

    async fn piece(&mut self, part: Part) -> Result<Out, HookEnd> {
        // The token that ends an answer has no text.
        if part.text.is_empty() {
            return Ok(self.out(part.text, part.tokens, false));
        }
        self.held.came(&part.text);
        let piece = Piece { text: part.text.clone(), tokens: self.shown(&part.tokens).unwrap_or_default() };
        let (text, is_last) = match self.hook.push(piece).await? {
            Some(Step::Send(text)) => (text, false),
            Some(Step::End(text)) => (text, true),
            Some(Step::Refuse(refusal)) => return Err(self.hook.refused(refusal)),
            None => {
                self.is_passed_by = true;
                (self.held.rest(&part.text), false)
            }
        };
        self.held.went(&text);
        self.is_as_written &= text == part.text;
        Ok(self.out(text, part.tokens, is_last))
    }

    async fn end(&mut self, ending: Ending) -> Result<Out, HookEnd> {
        let (text, is_last) = match self.hook.finish(ending).await? {
            Some(Step::Send(text)) => (text, false),
            Some(Step::End(text)) => (text, true),
            Some(Step::Refuse(refusal)) => return Err(self.hook.refused(refusal)),
            None => (self.held.rest(""), false),
        };
        Ok(self.out(text, Vec::new(), is_last))
    }

    async fn whole(&mut self, ending: Ending) -> Result<Out, HookEnd> {
        let Part { text, tokens } = std::mem::take(&mut self.kept);
        let answer = Answer {
            index: self.index,
            text: text.clone(),
            tool_calls: Vec::new(),
            finish_reason: ending.finish_reason,
            usage: ending.usage,
            tokens: self.shown(&tokens),
            carry: std::mem::take(&mut self.carry),
        };
        let replaced = match self.hook.answer(answer).await? {
            None | Some(AnswerOutcome::Unchanged) => return Ok(self.out(text, tokens, false)),
            Some(AnswerOutcome::Refused(refusal)) => return Err(self.hook.refused(refusal)),
            Some(AnswerOutcome::Replaced(replaced)) => replaced,
        };
        self.is_as_written = replaced == text;
        Ok(self.out(replaced, tokens, false))
    }

    /// Tokens say what the model wrote, so they go along only with what it wrote.
    fn out(&self, text: String, tokens: Vec<Scored>, is_last: bool) -> Out {
        let tokens = if self.is_as_written { tokens } else { Vec::new() };
        Out { part: Part { text, tokens }, is_last }
    }

    fn shown(&self, tokens: &[Scored]) -> Option<Vec<Token>> {
        let vocabulary = self.base.as_ref()?.tokenizer.vocabulary();
        let token = |token: &Scored| Token { text: vocabulary.text(token.id), logprob: Some(token.logprobs.logprob) };
        Some(tokens.iter().map(token).collect())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;
    use souk_plugins::words::{FinishReason, Usage};
    use souk_protocol::{Outcome, TokenLogprobs};

    use super::*;
    use crate::error::ApiError;

    /// Holds back up to so many characters, and fails at a piece where that is passed over.
    struct Holding {
        most: usize,
        fails_at: Option<usize>,
        num_pieces: usize,
        held: String,
    }

    impl Holding {
        fn new(most: usize, fails_at: Option<usize>) -> Self {
            Self { most, fails_at, num_pieces: 0, held: String::new() }
        }
    }

    impl After for Holding {
        async fn answer(&mut self, answer: Answer) -> Result<Option<AnswerOutcome>, HookEnd> {
            Ok(Some(AnswerOutcome::Replaced(answer.text.to_uppercase())))
        }

        async fn push(&mut self, piece: Piece) -> Result<Option<Step>, HookEnd> {
            self.num_pieces += 1;
            if self.fails_at == Some(self.num_pieces) {
                return Ok(None);
            }
            self.held.push_str(&piece.text);
            let from = self.held.char_indices().rev().nth(self.most.saturating_sub(1)).map_or(0, |(at, _)| at);
            let from = if self.most == 0 { self.held.len() } else { from };
            let rest = self.held.split_off(from);
            Ok(Some(Step::Send(std::mem::replace(&mut self.held, rest))))
        }

        async fn finish(&mut self, _: Ending) -> Result<Option<Step>, HookEnd> {
            self.num_pieces += 1;
            let fails = self.fails_at == Some(self.num_pieces);
            Ok((!fails).then(|| Step::Send(std::mem::take(&mut self.held))))
        }

        fn refused(&mut self, refusal: Refusal) -> HookEnd {
            let error = ApiError::HookRefused { hook: String::new(), status: refusal.status, message: refusal.message };
            HookEnd { error: Box::new(error), outcome: Outcome::OwnHook }
        }
    }

    fn ending() -> Ending {
        Ending { finish_reason: FinishReason::Stop, usage: Usage::default() }
    }

    /// All that comes out of a layer for these pieces, each with one token.
    fn through(layer: &mut Layer<Holding>, pieces: &[String]) -> Part {
        let mut all = Part::default();
        for (id, text) in (0..).zip(pieces) {
            let token = Scored { id, logprobs: TokenLogprobs { logprob: -1.0, top: Vec::new() } };
            let part = Part { text: text.clone(), tokens: vec![token] };
            all.append(layer.push(part).now_or_never().unwrap().unwrap().part);
        }
        all.append(layer.finish(ending()).now_or_never().unwrap().unwrap().part);
        all
    }

    proptest! {
        #[test]
        fn whatever_a_hook_holds_back_and_whenever_it_fails_nothing_is_lost(
            pieces in prop::collection::vec("[aé]{1,4}", 0..6), most in 0_usize..4, fails_at in prop::option::of(1_usize..8),
            manner in prop::sample::select(vec![Manner::Pieces, Manner::OnePiece]),
        ) {
            let mut layer = Layer::new(Holding::new(most, fails_at), manner, 0, Vec::new(), None);
            let out = through(&mut layer, &pieces);
            prop_assert_eq!(&out.text, &pieces.concat());
            // Tokens are those of text that came out as it went in.
            if most == 0 && manner == Manner::Pieces {
                prop_assert_eq!(out.tokens.len(), pieces.len());
            }
            prop_assert!(out.tokens.len() <= pieces.len());
        }
    }

    #[test]
    fn a_whole_answer_waits_for_its_end_and_its_tokens_stay_where_it_does() {
        let mut layer = Layer::new(Holding::new(0, None), Manner::Whole, 0, Vec::new(), None);
        let out = through(&mut layer, &["ab".to_owned(), "c".to_owned()]);
        assert_eq!((out.text.as_str(), out.tokens.len()), ("ABC", 0));
        let mut layer = Layer::new(Holding::new(0, None), Manner::Whole, 0, Vec::new(), None);
        let out = through(&mut layer, &["AB".to_owned(), "C".to_owned()]);
        assert_eq!((out.text.as_str(), out.tokens.len()), ("ABC", 2));
    }
}
