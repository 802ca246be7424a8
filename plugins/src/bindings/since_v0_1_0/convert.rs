//! The words of this generation and ours, item by item. They are the same but for their types.

use super::generated::exports::souk::hooks::{answer, describe, prompt, stream};
use super::generated::souk::hooks::{log, types};
use crate::words;

impl From<words::Request> for types::Request {
    fn from(request: words::Request) -> Self {
        let words::Request { input, parameters, constraint, adapter, tools, choices, is_streamed, metadata } = request;
        Self {
            input: input.into(),
            parameters: parameters.into(),
            constraint: constraint.map(Into::into),
            adapter,
            tools,
            choices,
            is_streamed,
            metadata,
        }
    }
}

impl From<types::Request> for words::Request {
    fn from(request: types::Request) -> Self {
        let types::Request { input, parameters, constraint, adapter, tools, choices, is_streamed, metadata } = request;
        Self {
            input: input.into(),
            parameters: parameters.into(),
            constraint: constraint.map(Into::into),
            adapter,
            tools,
            choices,
            is_streamed,
            metadata,
        }
    }
}

impl From<words::Input> for types::Input {
    fn from(input: words::Input) -> Self {
        match input {
            words::Input::Messages(messages) => Self::Messages(all(messages)),
            words::Input::Text(text) => Self::Text(text),
        }
    }
}

impl From<types::Input> for words::Input {
    fn from(input: types::Input) -> Self {
        match input {
            types::Input::Messages(messages) => Self::Messages(all(messages)),
            types::Input::Text(text) => Self::Text(text),
        }
    }
}

impl From<words::Message> for types::Message {
    fn from(message: words::Message) -> Self {
        let words::Message { role, content, name, tool_calls, tool_call_id } = message;
        Self { role, content, name, tool_calls: all(tool_calls), tool_call_id }
    }
}

impl From<types::Message> for words::Message {
    fn from(message: types::Message) -> Self {
        let types::Message { role, content, name, tool_calls, tool_call_id } = message;
        Self { role, content, name, tool_calls: all(tool_calls), tool_call_id }
    }
}

impl From<words::ToolCall> for types::ToolCall {
    fn from(words::ToolCall { id, name, arguments }: words::ToolCall) -> Self {
        Self { id, name, arguments }
    }
}

impl From<types::ToolCall> for words::ToolCall {
    fn from(types::ToolCall { id, name, arguments }: types::ToolCall) -> Self {
        Self { id, name, arguments }
    }
}

impl From<words::Parameters> for types::Parameters {
    fn from(parameters: words::Parameters) -> Self {
        Self {
            temperature: parameters.temperature,
            top_p: parameters.top_p,
            top_k: parameters.top_k,
            min_p: parameters.min_p,
            frequency_penalty: parameters.frequency_penalty,
            presence_penalty: parameters.presence_penalty,
            repetition_penalty: parameters.repetition_penalty,
            max_tokens: parameters.max_tokens,
            seed: parameters.seed,
            stop: parameters.stop,
        }
    }
}

impl From<types::Parameters> for words::Parameters {
    fn from(parameters: types::Parameters) -> Self {
        Self {
            temperature: parameters.temperature,
            top_p: parameters.top_p,
            top_k: parameters.top_k,
            min_p: parameters.min_p,
            frequency_penalty: parameters.frequency_penalty,
            presence_penalty: parameters.presence_penalty,
            repetition_penalty: parameters.repetition_penalty,
            max_tokens: parameters.max_tokens,
            seed: parameters.seed,
            stop: parameters.stop,
        }
    }
}

impl From<words::Constraint> for types::Constraint {
    fn from(constraint: words::Constraint) -> Self {
        match constraint {
            words::Constraint::JsonObject => Self::JsonObject,
            words::Constraint::JsonSchema(schema) => Self::JsonSchema(schema),
            words::Constraint::Regex(expression) => Self::Regex(expression),
            words::Constraint::Grammar(grammar) => Self::Grammar(grammar),
            words::Constraint::Choice(texts) => Self::Choice(texts),
        }
    }
}

impl From<types::Constraint> for words::Constraint {
    fn from(constraint: types::Constraint) -> Self {
        match constraint {
            types::Constraint::JsonObject => Self::JsonObject,
            types::Constraint::JsonSchema(schema) => Self::JsonSchema(schema),
            types::Constraint::Regex(expression) => Self::Regex(expression),
            types::Constraint::Grammar(grammar) => Self::Grammar(grammar),
            types::Constraint::Choice(texts) => Self::Choice(texts),
        }
    }
}

impl From<types::Refusal> for words::Refusal {
    fn from(types::Refusal { status, message }: types::Refusal) -> Self {
        Self { status, message }
    }
}

impl From<prompt::Outcome> for words::PromptOutcome {
    fn from(outcome: prompt::Outcome) -> Self {
        match outcome {
            prompt::Outcome::Unchanged => Self::Unchanged,
            prompt::Outcome::Rewritten(prompt::Rewritten { request, carry }) => {
                Self::Rewritten(words::Rewritten { request: request.into(), carry })
            }
            prompt::Outcome::Answered(text) => Self::Answered(text),
            prompt::Outcome::Refused(refusal) => Self::Refused(refusal.into()),
        }
    }
}

impl From<words::FinishReason> for types::FinishReason {
    fn from(reason: words::FinishReason) -> Self {
        match reason {
            words::FinishReason::Stop => Self::Stop,
            words::FinishReason::Length => Self::Length,
            words::FinishReason::ToolCalls => Self::ToolCalls,
            words::FinishReason::ContentFilter => Self::ContentFilter,
        }
    }
}

impl From<words::Token> for types::Token {
    fn from(words::Token { text, logprob }: words::Token) -> Self {
        Self { text, logprob }
    }
}

impl From<words::Usage> for types::Usage {
    fn from(words::Usage { prompt_tokens, completion_tokens }: words::Usage) -> Self {
        Self { prompt_tokens, completion_tokens }
    }
}

impl From<words::Answer> for answer::Whole {
    fn from(answer: words::Answer) -> Self {
        let words::Answer { index, text, tool_calls, finish_reason, usage, tokens, carry } = answer;
        Self {
            index,
            text,
            tool_calls: all(tool_calls),
            finish_reason: finish_reason.into(),
            usage: usage.into(),
            tokens: tokens.map(all),
            carry,
        }
    }
}

impl From<answer::Outcome> for words::AnswerOutcome {
    fn from(outcome: answer::Outcome) -> Self {
        match outcome {
            answer::Outcome::Unchanged => Self::Unchanged,
            answer::Outcome::Replaced(text) => Self::Replaced(text),
            answer::Outcome::Refused(refusal) => Self::Refused(refusal.into()),
        }
    }
}

impl From<words::Opening> for stream::Opening {
    fn from(words::Opening { index, carry }: words::Opening) -> Self {
        Self { index, carry }
    }
}

impl From<words::Piece> for stream::Piece {
    fn from(words::Piece { text, tokens }: words::Piece) -> Self {
        Self { text, tokens: all(tokens) }
    }
}

impl From<words::Ending> for stream::Ending {
    fn from(words::Ending { finish_reason, usage }: words::Ending) -> Self {
        Self { finish_reason: finish_reason.into(), usage: usage.into() }
    }
}

impl From<stream::Step> for words::Step {
    fn from(step: stream::Step) -> Self {
        match step {
            stream::Step::Send(text) => Self::Send(text),
            stream::Step::End(text) => Self::End(text),
            stream::Step::Refuse(refusal) => Self::Refuse(refusal.into()),
        }
    }
}

impl From<describe::Description> for words::Description {
    fn from(description: describe::Description) -> Self {
        let describe::Description { name, version, summary, config_schema } = description;
        Self { name, version, summary, config_schema }
    }
}

impl From<log::Level> for words::Level {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
        }
    }
}

fn all<A, B: From<A>>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(Into::into).collect()
}
