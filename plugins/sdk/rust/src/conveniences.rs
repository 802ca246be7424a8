//! Short ways to say what hooks say most.

use crate::bindings::exports::souk::hooks::{answer, prompt, stream};
use crate::types::{Message, Refusal, Request};

impl prompt::Outcome {
    /// The request goes on as this one, and nothing is kept for the answer.
    pub fn rewritten(request: Request) -> Self {
        Self::Rewritten(prompt::Rewritten { request, carry: Vec::new() })
    }

    /// The request is refused.
    pub fn refuse(status: u16, message: impl Into<String>) -> Self {
        Self::Refused(Refusal { status, message: message.into() })
    }
}

impl answer::Outcome {
    /// This text is sent, unless it is the answer's own.
    pub fn changed(answer: &answer::Whole, text: String) -> Self {
        if text == answer.text { Self::Unchanged } else { Self::Replaced(text) }
    }

    /// The answer is not shown.
    pub fn refuse(status: u16, message: impl Into<String>) -> Self {
        Self::Refused(Refusal { status, message: message.into() })
    }
}

impl stream::Step {
    /// The answer ends with an error.
    pub fn refuse(status: u16, message: impl Into<String>) -> Self {
        Self::Refuse(Refusal { status, message: message.into() })
    }
}

impl Message {
    /// A message with only a role and a text.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: Some(content.into()),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
        }
    }
}
