//! What a hook made of a request, read by the code that reads a client's body: the same limits, and errors that name the same fields.

use serde::Serialize;
use souk_plugins::words::{Constraint, Input as HookInput, Message, Parameters, Request, ToolCall};

use crate::error::ApiError;
use crate::limits::GatewayLimits;
use crate::request::{ChatMessage, ChatRequest, CompletionRequest, GenerationParams, Prompt};

/// A request that a hook may have made.
pub(crate) struct Checked {
    pub(crate) request: Request,
    pub(crate) input: CheckedInput,
    pub(crate) params: GenerationParams,
}

/// What is asked in it.
pub(crate) enum CheckedInput {
    Chat(Vec<ChatMessage>),
    Text(Prompt),
}

/// Whether what no hook can change is as it was given.
///
/// # Errors
/// What is not.
pub(crate) fn unchangeable(returned: &Request, given: &Request, may_name_adapter: bool) -> Result<(), String> {
    let changed = [
        ("choices", returned.choices != given.choices),
        ("is-streamed", returned.is_streamed != given.is_streamed),
        ("tools", returned.tools != given.tools),
        ("metadata", returned.metadata != given.metadata),
    ];
    if let Some((name, _)) = changed.iter().find(|(_, is_changed)| *is_changed) {
        return Err(format!("'{name}' of a request cannot be changed by a hook"));
    }
    if !may_name_adapter && returned.adapter != given.adapter {
        return Err("'adapter' cannot be changed by a hook of the adapter's publisher".to_owned());
    }
    Ok(())
}

/// What a publisher's hook made, with no longer answer than the caller asked for, who pays for it.
pub(crate) fn no_longer(mut returned: Request, given: &Request) -> Request {
    if let Some(asked) = given.parameters.max_tokens {
        let wanted = &mut returned.parameters.max_tokens;
        *wanted = Some(wanted.map_or(asked, |wanted| wanted.min(asked)));
    }
    returned
}

/// About as many bytes as reading it takes.
pub(crate) fn num_bytes(request: &Request) -> usize {
    match &request.input {
        HookInput::Messages(messages) => messages.iter().map(|it| it.content.as_ref().map_or(0, String::len)).sum(),
        HookInput::Text(text) => text.len(),
    }
}

/// Reads a request as a client's. `ignores_eos` is what the client said beside what hooks see.
///
/// # Errors
/// What a client would be told.
pub(crate) fn check(request: Request, ignores_eos: bool, limits: &GatewayLimits) -> Result<Checked, String> {
    finite(&request.parameters)?;
    let body = serde_json::to_vec(&Body::of(&request, ignores_eos)).map_err(|error| error.to_string())?;
    if body.len() > limits.max_body_bytes {
        return Err(said(&ApiError::BodyTooLarge { limit: limits.max_body_bytes }));
    }
    let (input, params) = match &request.input {
        HookInput::Messages(_) => {
            let read = ChatRequest::read(&body, limits).map_err(|error| said(&error))?;
            (CheckedInput::Chat(read.messages), read.generation)
        }
        HookInput::Text(_) => {
            let mut read = CompletionRequest::read(&body, limits).map_err(|error| said(&error))?;
            let prompt = read.prompts.pop().ok_or("the request has no prompt")?;
            (CheckedInput::Text(prompt), read.generation)
        }
    };
    Ok(Checked { request, input, params })
}

/// Numbers that JSON cannot write.
fn finite(parameters: &Parameters) -> Result<(), String> {
    let numbers = [
        ("temperature", parameters.temperature),
        ("top_p", parameters.top_p),
        ("min_p", parameters.min_p),
        ("frequency_penalty", parameters.frequency_penalty),
        ("presence_penalty", parameters.presence_penalty),
        ("repetition_penalty", parameters.repetition_penalty),
    ];
    let wrong = numbers.into_iter().find_map(|(name, number)| number.filter(|it| !it.is_finite()).map(|it| (name, it)));
    wrong.map_or(Ok(()), |(name, given)| Err(format!("'{name}' must be a number; given {given}")))
}

/// An error as a part of a sentence.
fn said(error: &ApiError) -> String {
    error.to_string().trim_end_matches('.').to_owned()
}

/// The body of a request, in which a hook's words have the names of the API.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<BodyMessage<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    repetition_penalty: Option<f32>,
    max_tokens: Option<u32>,
    seed: Option<i64>,
    stop: &'a [String],
    n: u32,
    ignore_eos: bool,
    #[serde(flatten)]
    constraint: BodyConstraint<'a>,
}

#[derive(Serialize)]
struct BodyMessage<'a> {
    role: &'a str,
    content: Option<&'a str>,
    name: Option<&'a str>,
    tool_call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<BodyToolCall<'a>>,
}

#[derive(Serialize)]
struct BodyToolCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: BodyFunction<'a>,
}

#[derive(Serialize)]
struct BodyFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Default, Serialize)]
struct BodyConstraint<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_json: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_regex: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_grammar: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guided_choice: Option<&'a [String]>,
}

#[derive(Serialize)]
struct ResponseFormat {
    r#type: &'static str,
}

impl<'a> Body<'a> {
    fn of(request: &'a Request, ignore_eos: bool) -> Self {
        let (messages, prompt) = match &request.input {
            HookInput::Messages(messages) => (Some(messages.iter().map(BodyMessage::of).collect()), None),
            HookInput::Text(text) => (None, Some(text.as_str())),
        };
        let parameters = &request.parameters;
        Self {
            // Which model it is, is looked up apart.
            model: request.adapter.as_deref().unwrap_or("model"),
            messages,
            prompt,
            temperature: parameters.temperature,
            top_p: parameters.top_p,
            top_k: parameters.top_k,
            min_p: parameters.min_p,
            frequency_penalty: parameters.frequency_penalty,
            presence_penalty: parameters.presence_penalty,
            repetition_penalty: parameters.repetition_penalty,
            max_tokens: parameters.max_tokens,
            seed: parameters.seed.map(u64::cast_signed),
            stop: &parameters.stop,
            n: request.choices,
            ignore_eos,
            constraint: BodyConstraint::of(request.constraint.as_ref()),
        }
    }
}

impl<'a> BodyMessage<'a> {
    fn of(message: &'a Message) -> Self {
        let call = |call: &'a ToolCall| BodyToolCall {
            id: &call.id,
            r#type: "function",
            function: BodyFunction { name: &call.name, arguments: &call.arguments },
        };
        Self {
            role: &message.role,
            content: message.content.as_deref(),
            name: message.name.as_deref(),
            tool_call_id: message.tool_call_id.as_deref(),
            tool_calls: message.tool_calls.iter().map(call).collect(),
        }
    }
}

impl<'a> BodyConstraint<'a> {
    fn of(constraint: Option<&'a Constraint>) -> Self {
        let none = Self::default();
        match constraint {
            None => none,
            Some(Constraint::JsonObject) => {
                Self { response_format: Some(ResponseFormat { r#type: "json_object" }), ..none }
            }
            Some(Constraint::JsonSchema(schema)) => Self { guided_json: Some(schema), ..none },
            Some(Constraint::Regex(source)) => Self { guided_regex: Some(source), ..none },
            Some(Constraint::Grammar(source)) => Self { guided_grammar: Some(source), ..none },
            Some(Constraint::Choice(texts)) => Self { guided_choice: Some(texts), ..none },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn request(value: &serde_json::Value) -> Request {
        serde_json::from_value(value.clone()).unwrap()
    }

    fn checked(value: &serde_json::Value) -> Result<Checked, String> {
        check(request(value), false, &GatewayLimits::default())
    }

    #[test]
    fn what_a_client_could_not_send_a_hook_cannot_make() {
        let with = |name: &str, value: serde_json::Value| {
            let mut request = json!({"input": {"messages": [{"role": "user", "content": "hello"}]}});
            request[name] = value;
            request
        };
        for (value, named) in [
            (with("parameters", json!({"temperature": 2.5})), "'temperature' must be between 0 and 2; given 2.5"),
            (with("parameters", json!({"stop": vec!["x"; 17]})), "'stop' may have at most 16 entries"),
            (with("parameters", json!({"stop": [""]})), "'stop[0]' must have 1 to"),
            (with("parameters", json!({"max_tokens": 0})), "'max_tokens' must be between 1 and"),
            (with("constraint", json!({"regex": " "})), "'guided_regex' must not be empty"),
            (with("constraint", json!({"json_schema": "{"})), "'guided_json' must be a JSON schema"),
            (with("constraint", json!({"choice": []})), "'guided_choice' must have 1 to"),
            (with("input", json!({"messages": []})), "'messages' must have 1 to"),
            (
                with("input", json!({"messages": [{"role": "robot", "content": "x"}]})),
                "'messages[0].role' must be one of",
            ),
            (with("input", json!({"messages": [{"role": "user"}]})), "'messages[0].content' is required"),
            (
                with(
                    "input",
                    json!({"messages": [{"role": "assistant", "content": "x",
                    "tool_calls": [{"id": "1", "name": "f", "arguments": "{}"}]}]}),
                ),
                "'messages[0].tool_calls' is not supported",
            ),
        ] {
            let error = checked(&value).err().unwrap_or_else(|| panic!("{value} is taken"));
            assert!(error.contains(named), "{error}");
        }
        let mut not_a_number = request(&with("choices", json!(1)));
        not_a_number.parameters.top_p = Some(f32::NAN);
        let error = check(not_a_number, false, &GatewayLimits::default()).err().unwrap();
        assert_eq!(error, "'top_p' must be a number; given NaN");
        let long = with("input", json!({"text": "x".repeat(GatewayLimits::default().max_body_bytes)}));
        assert!(checked(&long).err().unwrap().contains("larger than the limit"));
        let endless = check(request(&with("constraint", json!("json_object"))), true, &GatewayLimits::default());
        assert!(endless.err().unwrap().contains("'ignore_eos' cannot be combined"));
    }

    #[test]
    fn what_a_hook_sees_and_cannot_change_stays() {
        let given = request(&json!({"input": {"text": "a"}, "adapter": "a/b", "metadata": [["k", "v"]]}));
        let changed = [
            ("'choices'", Request { choices: 2, ..given.clone() }),
            ("'is-streamed'", Request { is_streamed: true, ..given.clone() }),
            ("'tools'", Request { tools: Some("[]".to_owned()), ..given.clone() }),
            ("'metadata'", Request { metadata: Vec::new(), ..given.clone() }),
            ("'adapter'", Request { adapter: None, ..given.clone() }),
        ];
        for (named, returned) in changed {
            let error = unchangeable(&returned, &given, false).unwrap_err();
            assert!(error.contains(named), "{error}");
            assert_eq!(unchangeable(&returned, &given, true).is_ok(), named == "'adapter'");
        }
    }

    proptest! {
        #[test]
        fn texts_and_numbers_of_a_hook_arrive_as_they_are(
            content in "\\PC{0,40}", seed in any::<u64>(), top_k in any::<u32>(), temperature in 0.0_f32..=2.0,
            stop in proptest::collection::vec("\\PC{1,8}", 0..4),
        ) {
            let mut given = request(&json!({"input": {"messages": [{"role": "user", "content": content}]}}));
            given.parameters = Parameters {
                seed: Some(seed), top_k: Some(top_k), temperature: Some(temperature), stop: stop.clone(),
                ..Parameters::default()
            };
            let checked = check(given, false, &GatewayLimits::default()).unwrap();
            let CheckedInput::Chat(messages) = checked.input else { panic!("it was a chat") };
            prop_assert_eq!(&messages[0].content, &content);
            let sampling = checked.params.sampling();
            prop_assert_eq!((sampling.seed, sampling.top_k, sampling.temperature), (seed, top_k, temperature));
            prop_assert_eq!(checked.params.stop, stop);
        }
    }
}
