//! How many bytes words are, for the bounds of what goes into a hook and comes out.

use super::{
    Answer, AnswerOutcome, Constraint, Description, Input, Message, Parameters, Piece, PromptOutcome, Refusal,
};
use super::{Request, Step, Token, ToolCall};

/// What each item of a list counts beside its texts, so that a million empty ones count as well.
const ITEM_BYTES: usize = 16;

impl Request {
    /// Bytes of all its texts, and something for each item.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.input.size_bytes()
            + self.parameters.size_bytes()
            + self.constraint.as_ref().map_or(0, Constraint::size_bytes)
            + length(self.adapter.as_ref())
            + length(self.tools.as_ref())
            + sum(&self.metadata, |(name, value)| name.len() + value.len())
    }
}

impl Input {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Messages(messages) => sum(messages, Message::size_bytes),
            Self::Text(text) => text.len(),
        }
    }
}

impl Message {
    fn size_bytes(&self) -> usize {
        let texts = [self.content.as_ref(), self.name.as_ref(), self.tool_call_id.as_ref()];
        self.role.len() + texts.into_iter().map(length).sum::<usize>() + sum(&self.tool_calls, ToolCall::size_bytes)
    }
}

impl ToolCall {
    fn size_bytes(&self) -> usize {
        self.id.len() + self.name.len() + self.arguments.len()
    }
}

impl Parameters {
    fn size_bytes(&self) -> usize {
        sum(&self.stop, String::len)
    }
}

impl Constraint {
    fn size_bytes(&self) -> usize {
        match self {
            Self::JsonObject => 0,
            Self::JsonSchema(source) | Self::Regex(source) | Self::Grammar(source) => source.len(),
            Self::Choice(texts) => sum(texts, String::len),
        }
    }
}

impl Answer {
    /// Bytes of all its texts, and something for each item.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let tokens = self.tokens.as_ref().map_or(0, |tokens| sum(tokens, Token::size_bytes));
        self.text.len() + sum(&self.tool_calls, ToolCall::size_bytes) + tokens + self.carry.len()
    }
}

impl Piece {
    /// Bytes of all its texts, and something for each token.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.text.len() + sum(&self.tokens, Token::size_bytes)
    }
}

impl Token {
    fn size_bytes(&self) -> usize {
        self.text.len()
    }
}

impl PromptOutcome {
    /// Bytes of all its texts, and something for each item.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Unchanged => 0,
            Self::Rewritten(rewritten) => rewritten.request.size_bytes() + rewritten.carry.len(),
            Self::Answered(text) => text.len(),
            Self::Refused(refusal) => refusal.size_bytes(),
        }
    }
}

impl AnswerOutcome {
    /// Bytes of its text.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Unchanged => 0,
            Self::Replaced(text) => text.len(),
            Self::Refused(refusal) => refusal.size_bytes(),
        }
    }
}

impl Step {
    /// Bytes of its text.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Send(text) | Self::End(text) => text.len(),
            Self::Refuse(refusal) => refusal.size_bytes(),
        }
    }
}

impl Refusal {
    fn size_bytes(&self) -> usize {
        self.message.len()
    }
}

impl Description {
    /// Bytes of all its texts.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.name.len() + self.version.len() + self.summary.len() + length(self.config_schema.as_ref())
    }
}

fn length(text: Option<&String>) -> usize {
    text.map_or(0, String::len)
}

fn sum<T>(items: &[T], size: impl Fn(&T) -> usize) -> usize {
    items.iter().map(|item| ITEM_BYTES + size(item)).sum()
}
