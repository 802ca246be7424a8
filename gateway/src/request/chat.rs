//! The body of `POST /v1/chat/completions`.

use std::borrow::Cow;

use utoipa::ToSchema;

use super::body::{self, FromFields};
use super::fields::{Fields, List, text, wrong_type};
use super::raw::{Kind, Raw};
use super::sampling::{GenerationParams, WITHOUT_EFFECT, take_max_tokens};
use crate::error::ApiError;
use crate::limits::GatewayLimits;
use crate::text::template::TemplateMessage;

/// A chat request, checked.
#[derive(Clone, Debug, PartialEq, ToSchema)]
pub struct ChatRequest {
    /// A base model's id, or an adapter: `owner/name`, `owner/name@1.2.0`, `owner/name@sha256:…` or `owner/name:tag`.
    pub model: String,
    /// The conversation so far.
    #[schema(min_items = 1)]
    pub messages: Vec<ChatMessage>,
    /// Longest answer in tokens; also accepted as `max_tokens`. Default: what the context leaves.
    #[schema(minimum = 1)]
    pub max_completion_tokens: Option<u64>,
    /// Reports the logprobs of the answer's tokens.
    #[schema(required = false)]
    pub logprobs: bool,
    /// Alternatives to report for each of them; needs `logprobs`.
    #[schema(minimum = 0, maximum = 20, required = false)]
    pub top_logprobs: u8,
    /// The shared parameters, which stand beside these in the body.
    #[serde(flatten)]
    pub generation: GenerationParams,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct ChatMessage {
    /// Who said it: `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: Role,
    /// What is said: a string, or a list of parts `{"type": "text", "text": …}`, which are joined.
    pub content: String,
    /// The speaker's name, for templates that use it.
    pub name: Option<String>,
    /// The call that a `tool` message answers, for templates that use it.
    pub tool_call_id: Option<String>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Role {
    /// Instructions; `developer` means the same.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl ChatRequest {
    /// The request that a body is, which takes less than eight times the body's bytes of memory to read.
    ///
    /// # Errors
    /// What is wrong with it, by its field.
    pub fn read(body: &[u8], limits: &GatewayLimits) -> Result<Self, ApiError> {
        body::parse(body, limits)
    }
}

impl FromFields for ChatRequest {
    fn parse(mut fields: Fields<'_>, limits: &GatewayLimits) -> Result<Self, ApiError> {
        let model = fields.string("model")?.ok_or(ApiError::MissingParameter("model"))?;
        let messages = parse_messages(&mut fields, limits)?;
        let max_tokens = take_max_tokens(&mut fields, "max_tokens", 1)?;
        let max_completion_tokens = take_max_tokens(&mut fields, "max_completion_tokens", 1)?.or(max_tokens);
        let logprobs = fields.boolean("logprobs")?.unwrap_or(false);
        let top_logprobs = fields.integer("top_logprobs", 0..=i64::from(limits.max_top_logprobs))?;
        if top_logprobs.is_some() && !logprobs {
            let message = "'top_logprobs' is only allowed with 'logprobs': true.";
            return Err(ApiError::invalid("top_logprobs", message));
        }
        let generation = GenerationParams::take(&mut fields, limits)?;
        refuse_unsupported(&mut fields)?;
        fields.finish(&WITHOUT_EFFECT)?;
        let top_logprobs = top_logprobs.map_or(0, |top| top as u8);
        Ok(Self { model, messages, max_completion_tokens, logprobs, top_logprobs, generation })
    }
}

fn refuse_unsupported(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    fields.refuse_unless("tools", "[]")?;
    fields.refuse_unless("functions", "[]")?;
    fields.refuse_unless("tool_choice", r#""none""#)?;
    fields.refuse_unless("function_call", r#""none""#)?;
    fields.refuse_unless("modalities", r#"["text"]"#)?;
    ["audio", "prediction", "web_search_options"].into_iter().try_for_each(|name| fields.refuse(name))
}

/// The messages of a chat or tokenize request.
pub(crate) fn parse_messages(fields: &mut Fields<'_>, limits: &GatewayLimits) -> Result<Vec<ChatMessage>, ApiError> {
    let messages = fields.list("messages")?.ok_or(ApiError::MissingParameter("messages"))?;
    if messages.len == 0 || messages.len > limits.max_messages {
        let (limit, given) = (limits.max_messages, messages.len);
        let message = format!("'messages' must have 1 to {limit} entries; given {given}.");
        return Err(ApiError::invalid("messages", message));
    }
    messages.map(parse_message)
}

fn parse_message(index: usize, message: Raw<'_>) -> Result<ChatMessage, ApiError> {
    let mut fields = Fields::within(&format!("messages[{index}]"), message)?;
    let role = match fields.string("role")?.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        other => {
            let given = other
                .map_or_else(|| "none".to_owned(), |role| format!("'{}'", role.chars().take(40).collect::<String>()));
            let path = fields.path("role");
            let message = format!("'{path}' must be one of system, developer, user, assistant, tool; given {given}.");
            return Err(ApiError::invalid(path, message));
        }
    };
    fields.refuse_unless("tool_calls", "[]")?;
    ["function_call", "audio", "refusal"].into_iter().try_for_each(|name| fields.refuse(name))?;
    let content = parse_content(&mut fields)?;
    let name = fields.string("name")?;
    let tool_call_id = fields.string("tool_call_id")?;
    // What a client got from us and sends back as it is.
    fields.finish(&["annotations", "reasoning_content"])?;
    Ok(ChatMessage { role, content, name, tool_call_id })
}

fn parse_content(fields: &mut Fields<'_>) -> Result<String, ApiError> {
    let (path, expected) = (fields.path("content"), "a string or a list of text parts");
    let Some(content) = fields.take("content") else {
        return Err(ApiError::invalid(path.clone(), format!("'{path}' is required.")));
    };
    match (content.kind(), List::of(content)) {
        (Kind::Text, _) => text(&path, content, expected).map(Cow::into_owned),
        (_, Some(parts)) => {
            let mut joined = String::new();
            parts.each(|index, part| {
                joined.push_str(&parse_part(&format!("{path}[{index}]"), part)?);
                Ok(())
            })?;
            Ok(joined)
        }
        _ => Err(wrong_type(&path, expected, content)),
    }
}

fn parse_part(path: &str, part: Raw<'_>) -> Result<String, ApiError> {
    let mut fields = Fields::within(path, part)?;
    let kind = fields.string("type")?.unwrap_or_default();
    if kind != "text" {
        let kind: String = kind.chars().take(40).collect();
        let message = format!("'{path}.type' supports 'text' only; given '{kind}'.");
        return Err(ApiError::unsupported(format!("{path}.type"), message));
    }
    let text = fields.string("text")?;
    fields.finish(&[])?;
    text.ok_or_else(|| ApiError::invalid(format!("{path}.text"), format!("'{path}.text' is required.")))
}

impl From<ChatMessage> for TemplateMessage {
    fn from(message: ChatMessage) -> Self {
        let fields = [("name", message.name), ("tool_call_id", message.tool_call_id)];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Self { role: message.role.as_str(), content: message.content, fields }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::json::{any_json, mutated};

    fn parse(body: &Value) -> Result<ChatRequest, ApiError> {
        ChatRequest::read(body.to_string().as_bytes(), &GatewayLimits::default())
    }

    fn valid() -> Value {
        json!({"model": "tiny", "messages": [{"role": "user", "content": "hello"}]})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = valid();
        body[name] = value;
        body
    }

    #[test]
    fn the_least_request_has_the_defaults() {
        let request = parse(&valid()).unwrap();
        assert_eq!((request.generation.n, request.generation.stream), (1, false));
        assert_eq!(request.max_completion_tokens, None);
        let sampling = request.generation.sampling();
        assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (1.0, 1.0, 0));
    }

    #[test]
    fn text_parts_are_joined() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let request = parse(&with("messages", json!([{"role": "developer", "content": parts}]))).unwrap();
        assert_eq!((request.messages[0].role, request.messages[0].content.as_str()), (Role::System, "ab"));
    }

    #[test]
    fn every_refusal_names_its_field() {
        let message = |message: Value| with("messages", json!([message]));
        for (body, param) in [
            (with("temperature", json!(2.1)), "temperature"),
            (with("temperature", json!("hot")), "temperature"),
            (with("top_p", json!(1.1)), "top_p"),
            (with("top_k", json!(-2)), "top_k"),
            (with("min_p", json!(-0.1)), "min_p"),
            (with("presence_penalty", json!(3)), "presence_penalty"),
            (with("repetition_penalty", json!(0)), "repetition_penalty"),
            (with("seed", json!(1.5)), "seed"),
            (with("n", json!(17)), "n"),
            (with("stop", json!(vec!["x"; 17])), "stop"),
            (with("stop", json!(["a", ""])), "stop[1]"),
            (with("stop", json!(["a", 1])), "stop[1]"),
            (with("max_tokens", json!(0)), "max_tokens"),
            (with("max_completion_tokens", json!(-1)), "max_completion_tokens"),
            (with("top_logprobs", json!(2)), "top_logprobs"),
            (with("logit_bias", json!({"x": 1})), "logit_bias"),
            (with("logit_bias", json!({"5": 101})), "logit_bias.5"),
            (with("stream_options", json!({"include_usage": true})), "stream_options"),
            (with("tools", json!([{"type": "function"}])), "tools"),
            (with("tool_choice", json!("auto")), "tool_choice"),
            (with("response_format", json!({"type": "xml"})), "response_format.type"),
            (with("guided_choice", json!("a")), "guided_choice"),
            (with("metadata", json!("a")), "metadata"),
            (with("metadata", json!({"a": 1})), "metadata.a"),
            (with("metadata", json!({"a": "x".repeat(513)})), "metadata.a"),
            (with("metadata", json!({"x".repeat(65): "a"})), "metadata"),
            (with("metadata", (0..17).map(|at| (at.to_string(), json!("x"))).collect()), "metadata"),
            (with("priority", json!(0)), "priority"),
            (with("priority", json!("high")), "priority"),
            (with("service_tier", json!("scale")), "service_tier"),
            (with("modalities", json!(["text", "audio"])), "modalities"),
            (with("audio", json!({"voice": "x"})), "audio"),
            (with("nonsense", json!(1)), "nonsense"),
            (with("messages", json!([])), "messages"),
            (message(json!("hello")), "messages[0]"),
            (message(json!({"role": "robot", "content": "x"})), "messages[0].role"),
            (message(json!({"role": "user"})), "messages[0].content"),
            (message(json!({"role": "user", "content": 7})), "messages[0].content"),
            (message(json!({"role": "user", "content": [{"type": "image_url"}]})), "messages[0].content[0].type"),
            (message(json!({"role": "user", "content": "x", "extra": 1})), "messages[0].extra"),
            (message(json!({"role": "assistant", "content": "x", "tool_calls": [1]})), "messages[0].tool_calls"),
        ] {
            let error = parse(&body).expect_err(&body.to_string());
            let answered = error.body().error;
            assert_eq!(answered.param.as_deref(), Some(param), "{body}");
            assert!(error.status().is_client_error() && answered.message.contains(param), "{}", answered.message);
        }
    }

    #[test]
    fn what_clients_send_without_meaning_is_accepted() {
        for (name, value) in [
            ("tools", json!([])),
            ("tool_choice", json!("none")),
            ("response_format", json!({"type": "text"})),
            ("modalities", json!(["text"])),
            ("metadata", json!({"a": "b"})),
            ("store", json!(false)),
            ("user", json!("someone")),
            ("stop", Value::Null),
            ("top_k", json!(-1)),
        ] {
            parse(&with(name, value)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    proptest! {
        #[test]
        fn any_change_of_a_valid_body_is_accepted_or_refused_as_the_callers_fault(
            body in mutated(json!({
                "model": "tiny", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
                "stream": true, "stream_options": {"include_usage": true}, "stop": ["a"], "logit_bias": {"1": 2},
                "n": 2, "temperature": 0.5, "logprobs": true, "top_logprobs": 3, "response_format": {"type": "text"},
            })),
        ) {
            if let Err(error) = parse(&body) {
                prop_assert!(error.status().is_client_error(), "{}", error);
            }
        }

        #[test]
        fn no_json_makes_the_parser_panic(body in any_json()) {
            if let Err(error) = parse(&body) {
                prop_assert!(error.status().is_client_error(), "{}", error);
            }
        }
    }
}
