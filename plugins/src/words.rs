//! The words of hooks in plain types: what callers give to the host and get back, whichever generation of the interface a hook was
//! built for. They are those of `wit/`, item by item; the newest generation's.
//!
//! As JSON, which recorded cases are written in, names are in snake case, a variant with something in it is an object of one name
//! (`{"text": "…"}`), one with nothing is its name (`"unchanged"`), and what is absent or empty may be left out.

mod size;

use serde::{Deserialize, Serialize};

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text; absent where an assistant's message only calls tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// Who speaks, where several speakers share a role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Tools that an assistant's message calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's message: which call it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

/// A call of a tool by the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Its id, which the tool's message repeats.
    pub id: String,
    /// The name of the function.
    pub name: String,
    /// The arguments, as the JSON text that the model wrote.
    pub arguments: String,
}

/// What the model is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A conversation.
    Messages(Vec<Message>),
    /// A text as it is.
    Text(String),
}

/// How tokens are chosen. What is absent is the installation's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// From 0, always the likeliest, to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Only the likeliest tokens whose probabilities reach this sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Only so many of the likeliest tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Only tokens at least this likely beside the likeliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// From -2 to 2: less of what the answer has often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// From -2 to 2: less of what the answer has at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// Divides the likelihood of what stands in prompt or answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
    /// Most tokens of an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// What the randomness is drawn from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Texts before which an answer ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that this schema, itself JSON, allows.
    JsonSchema(String),
    /// Text that this expression matches as a whole.
    Regex(String),
    /// Text of this grammar, in the form of Lark.
    Grammar(String),
    /// One of these texts.
    Choice(Vec<String>),
}

/// A request before the model sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What is asked.
    pub input: Input,
    /// How tokens are chosen.
    #[serde(default)]
    pub parameters: Parameters,
    /// What the answer must look like, if anything was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// The adapter that was named; absent for the base model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The tools that the model may call, as JSON. Hooks cannot change them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<String>,
    /// How many answers are asked for.
    #[serde(default = "one")]
    pub choices: u32,
    /// Whether answers are sent piece by piece.
    #[serde(default)]
    pub is_streamed: bool,
    /// What the caller said about the request: pairs of names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
}

const fn one() -> u32 {
    1
}

/// That a request gets no answer, or its answer is not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The status of HTTP, from 400 to 499: the host lets no other pass.
    pub status: u16,
    /// What the caller is told.
    pub message: String,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// By itself, or before a stop string.
    Stop,
    /// At its most tokens.
    Length,
    /// To call tools.
    ToolCalls,
    /// Because a hook ended it.
    ContentFilter,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its text; of a piece of a character it is the replacement character.
    pub text: String,
    /// The natural logarithm of its probability, where the caller asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprob: Option<f32>,
}

/// How many tokens something took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of this answer.
    pub completion_tokens: u32,
}

/// A request that goes on otherwise than it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewritten {
    /// As the model, or the next hook, gets it.
    pub request: Request,
    /// For the same hook's `answer` and `stream` in this request.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "carry")]
    pub carry: Vec<u8>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
pub enum PromptOutcome {
    /// It goes on as it came.
    Unchanged,
    /// It goes on otherwise.
    Rewritten(Rewritten),
    /// The model is not asked: this text is every answer.
    Answered(String),
    /// It is refused.
    Refused(Refusal),
}

/// One whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Which of the request's answers it is, from 0.
    #[serde(default)]
    pub index: u32,
    /// Its text.
    pub text: String,
    /// Tools that it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended.
    #[serde(default = "by_itself")]
    pub finish_reason: FinishReason,
    /// What it took.
    #[serde(default)]
    pub usage: Usage,
    /// Its tokens, where the caller asked for their logprobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<Token>>,
    /// What the same hook's `prompt` gave for it; empty if nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "carry")]
    pub carry: Vec<u8>,
}

const fn by_itself() -> FinishReason {
    FinishReason::Stop
}

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerOutcome {
    /// It is sent as it is.
    Unchanged,
    /// This text is sent in the place of its text.
    Replaced(String),
    /// It is not shown.
    Refused(Refusal),
}

/// How a stream begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Opening {
    /// Which of the request's answers it is, from 0.
    pub index: u32,
    /// What the same hook's `prompt` gave for it; empty if nothing.
    #[serde(skip_serializing_if = "Vec::is_empty", with = "carry")]
    pub carry: Vec<u8>,
}

/// A piece of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Its text, in whole characters.
    pub text: String,
    /// The tokens that it is made of, where the caller asked for their logprobs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ending {
    /// Why.
    #[serde(default = "by_itself")]
    pub finish_reason: FinishReason,
    /// What it took.
    #[serde(default)]
    pub usage: Usage,
}

/// What to do after a piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Send this text, which may be empty while more is waited for, and go on.
    Send(String),
    /// Send this text and end the answer; the model works on it no longer.
    End(String),
    /// End the answer with an error that says this.
    Refuse(Refusal),
}

/// What a hook says of itself when it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// What it is called, for people.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// One sentence.
    pub summary: String,
    /// A JSON Schema that a configuration of it has to fit; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_schema: Option<String>,
}

/// How much a line of a hook's log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For who debugs it.
    Debug,
    /// For who looks after it.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

/// A line that a hook wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The text.
    pub message: String,
}

/// A carry as JSON: text where it is text, else a list of bytes.
mod carry {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(carry: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(carry) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => carry.serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => text.into_bytes(),
            Written::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_written_as_the_page_says() {
        let request: Request = serde_json::from_value(json!({"input": {"text": "hello"}})).unwrap();
        assert_eq!((request.choices, request.is_streamed, &request.parameters), (1, false, &Parameters::default()));
        for carry in [json!("kept"), json!([255, 0])] {
            let outcome = json!({"rewritten": {
                "request": {"input": {"messages": [{"role": "user", "content": "hello"}]}, "parameters": {"top_k": 4},
                    "constraint": "json_object", "choices": 2, "is_streamed": true, "metadata": [["a", "b"]]},
                "carry": carry,
            }});
            let read: PromptOutcome = serde_json::from_value(outcome.clone()).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), outcome);
        }
        assert_eq!(serde_json::to_value(PromptOutcome::Unchanged).unwrap(), json!("unchanged"));
        assert!(serde_json::from_value::<Refusal>(json!({"status": 400, "message": "", "more": 1})).is_err());
    }
}
