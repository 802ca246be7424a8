//! A caller's request in the words of hooks.

use souk_plugins::words::{Constraint, Input as HookInput, Message, Parameters, Request};
use souk_protocol::{ConstraintSpec, ModelRef};

use crate::call::ask::Ask;
use crate::call::prepare::{Input, Length};
use crate::request::{ChatMessage, GenerationParams};
use crate::served::ServedBase;

/// What hooks see of a request: as many as it has prompts, each of which is shown by itself. Of a prompt that was sent as token
/// ids they see the text.
pub(crate) fn shown(ask: &Ask, base: &ServedBase) -> Vec<Request> {
    let inputs = match &ask.input {
        Input::Chat(messages) => vec![HookInput::Messages(messages.iter().map(message).collect())],
        Input::Prompts { prompts, .. } => prompts.iter().map(|prompt| HookInput::Text(prompt.text(base))).collect(),
    };
    let of = |input| Request {
        input,
        parameters: parameters(&ask.params, ask.length),
        constraint: ask.params.constraint.as_ref().map(|constraint| constraint_of(&constraint.spec)),
        adapter: adapter(ask),
        tools: None,
        choices: ask.params.n,
        is_streamed: ask.params.stream,
        metadata: ask.params.metadata.clone(),
    };
    inputs.into_iter().map(of).collect()
}

fn message(message: &ChatMessage) -> Message {
    Message {
        role: message.role.as_str().to_owned(),
        content: Some(message.content.clone()),
        name: message.name.clone(),
        tool_calls: Vec::new(),
        tool_call_id: message.tool_call_id.clone(),
    }
}

/// The adapter as it was named, if it is the only one.
fn adapter(ask: &Ask) -> Option<String> {
    match ask.params.adapters.as_slice() {
        [] => matches!(ask.model.parse(), Ok(ModelRef::Adapter(_))).then(|| ask.model.clone()),
        [only] => Some(only.id.clone()),
        _ => None,
    }
}

fn parameters(params: &GenerationParams, length: Length) -> Parameters {
    let number = |value: Option<f64>| value.map(|value| value as f32);
    Parameters {
        temperature: number(params.temperature),
        top_p: number(params.top_p),
        // Without a bound there is none to show.
        top_k: params.top_k.and_then(|k| u32::try_from(k).ok()),
        min_p: number(params.min_p),
        frequency_penalty: number(params.frequency_penalty),
        presence_penalty: number(params.presence_penalty),
        repetition_penalty: number(params.repetition_penalty),
        max_tokens: match length {
            Length::AtMost(tokens) | Length::Wanted(tokens) => Some(u32::try_from(tokens).unwrap_or(u32::MAX)),
            Length::Default(_) | Length::Rest => None,
        },
        seed: params.seed.map(i64::cast_unsigned),
        stop: params.stop.clone(),
    }
}

fn constraint_of(spec: &ConstraintSpec) -> Constraint {
    match spec {
        ConstraintSpec::JsonObject => Constraint::JsonObject,
        ConstraintSpec::JsonSchema(schema) => Constraint::JsonSchema(schema.clone()),
        ConstraintSpec::Regex(source) => Constraint::Regex(source.clone()),
        ConstraintSpec::Grammar(source) => Constraint::Grammar(source.clone()),
        ConstraintSpec::Choice(texts) => Constraint::Choice(texts.clone()),
    }
}
