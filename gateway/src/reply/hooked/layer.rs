//! One hook around an answer: what it is given of it and when, and what goes on from it.

use std::sync::Arc;

use souk_plugins::words::{Answer, AnswerOutcome, Ending, Piece, Refusal, Step, Token};

use super::held::Held;
use crate::hooks::HookEnd;
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
        let token = |token: &Scored| Token {
            text: vocabulary.text(token.id),
            logprob: Some(token.logprobs.logprob),
        };
        Some(tokens.iter().map(token).collect())
    }
}
