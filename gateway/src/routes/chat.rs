//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use souk_protocol::hooks::HookRoute;
use souk_protocol::{RequestId, wall_clock};
use utoipa::ToSchema;

use crate::auth::{Caller, RepeatHeader, RepeatParams};
use crate::call::admit::Admission;
use crate::call::ask::Ask;
use crate::call::prepare::{Input, Length};
use crate::call::repeat::Repeatable;
use crate::call::{self, Asker, Started};
use crate::error::{ApiError, ErrorBody};
use crate::gateway::Gateway;
use crate::reply::collect::WholeReply;
use crate::reply::logprobs::ChatLogprobs;
use crate::reply::piece::{Piece, Scored};
use crate::reply::respond::respond;
use crate::reply::shape::Shape;
use crate::reply::told::Told;
use crate::reply::usage::RequestUsage;
use crate::request::ChatRequest;
use crate::request::body::JsonBody;
use crate::served::ServedBase;

/// What is asked for, as the API calls it.
const OPERATION: &str = "chat.completion";

/// Answers a conversation.
///
/// Scope: `inference`. `model` is a base model's id or an adapter reference (`owner/name`, `owner/name@1.0.0`,
/// `owner/name:tag`). A private adapter of another tenant is 404, as one that does not exist.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "inference",
    security(("api_key" = [])),
    params(RepeatParams),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer; with `stream`, server-sent events of `ChatChunk` and a last `[DONE]`", content(
            (ChatCompletion = "application/json"), (ChatChunk = "text/event-stream"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed or overloaded", body = ErrorBody),
    )
)]
pub(crate) async fn create_chat_completion(
    State(gateway): State<Gateway>,
    caller: Caller,
    Extension(request_id): Extension<RequestId>,
    RepeatHeader(repeat): RepeatHeader,
    body: JsonBody<ChatRequest>,
) -> Response {
    let repeatable = Repeatable::of(OPERATION, &caller.principal.key, repeat.as_deref(), body.fingerprint);
    let mut told = Told::default();
    let answered = answer(&gateway, &caller, &request_id, repeatable, body, &mut told).await;
    told.show(answered.into_response())
}

async fn answer(
    gateway: &Gateway,
    caller: &Caller,
    request_id: &RequestId,
    repeatable: Option<Repeatable>,
    JsonBody { request, bytes, .. }: JsonBody<ChatRequest>,
    told: &mut Told,
) -> Result<Response, ApiError> {
    let admission = Admission::take(gateway, &caller.holder)?;
    let name = request.model.clone();
    let (n, logprobs, options) = (request.generation.n, request.logprobs, request.generation.stream_options);
    let asker = Asker {
        caller,
        admission: &admission,
        request: request_id,
        operation: OPERATION,
        route: HookRoute::Chat,
        repeatable,
    };
    let call = match call::begin(gateway, asker, request.into(), told).await? {
        Started::Call(call) => *call,
        Started::Repeated(response) => return Ok(response),
    };
    // The texts are tokens now.
    drop(bytes);
    let shape = ChatShape {
        base: Arc::clone(&call.model.base),
        head: Head::new(request_id, name, &call.model.base),
        logprobs,
        begun: vec![false; n as usize],
        usage: options.is_some_and(|options| options.include_usage).then(RequestUsage::default),
    };
    respond(call, shape, admission, gateway.limits()).await
}

impl From<ChatRequest> for Ask {
    fn from(request: ChatRequest) -> Self {
        Self {
            model: request.model,
            input: Input::Chat(request.messages),
            length: request.max_completion_tokens.map_or(Length::Rest, Length::AtMost),
            logprobs: request.logprobs.then_some(request.top_logprobs),
            prompt_logprobs: None,
            score_ending: false,
            params: request.generation,
        }
    }
}

/// What every part of an answer begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Head {
    /// Unique id of the answer.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// When the answer was begun, in seconds since the Unix epoch.
    pub created: u64,
    /// The model as it was asked for; the header `x-souk-adapter-digest` says what it meant.
    #[schema(value_type = String)]
    pub model: Arc<str>,
    /// Identifies the base model's weights.
    #[schema(value_type = String)]
    pub system_fingerprint: Arc<str>,
}

impl Head {
    fn new(request: &RequestId, model: String, base: &ServedBase) -> Self {
        let id = request.as_str().trim_start_matches("req_");
        Self {
            id: format!("chatcmpl-{id}").into(),
            created: wall_clock::since_epoch().as_secs(),
            model: model.into(),
            system_fingerprint: base.fingerprint().into(),
        }
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChatCompletion {
    /// `chat.completion`.
    pub object: &'static str,
    /// Id, model and time.
    #[serde(flatten)]
    pub head: Head,
    /// The choices, in order.
    pub choices: Vec<ChatChoice>,
    /// Token counts.
    pub usage: RequestUsage,
}

/// One choice.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChatChoice {
    /// Its number, from 0.
    pub index: usize,
    /// What the model answers.
    pub message: AnswerMessage,
    /// Present where asked for.
    #[schema(required)]
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length`, or `content_filter` where a hook ended it.
    pub finish_reason: &'static str,
}

/// The answer as a message, which may be sent back as part of the next request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnswerMessage {
    /// `assistant`.
    pub role: &'static str,
    /// The answer's text.
    pub content: String,
    /// Always null.
    #[schema(required)]
    pub refusal: Option<String>,
}

/// A part of a streamed answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChatChunk {
    /// `chat.completion.chunk`.
    pub object: &'static str,
    /// Id, model and time; the same in all chunks.
    #[serde(flatten)]
    pub head: Head,
    /// One choice; none in the chunk that carries the usage.
    pub choices: Vec<ChunkChoice>,
    /// Absent unless `include_usage` was set; then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RequestUsage>)]
    pub usage: Option<Option<RequestUsage>>,
}

/// What is new in one choice.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ChunkChoice {
    /// Its number, from 0.
    pub index: usize,
    /// What is new of the message.
    pub delta: Delta,
    /// Logprobs of the tokens that the text is made of, where asked for.
    #[schema(required)]
    pub logprobs: Option<ChatLogprobs>,
    /// `stop`, `length` or `content_filter` in the choice's last chunk.
    #[schema(required)]
    pub finish_reason: Option<&'static str>,
}

/// New text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Delta {
    /// `assistant`, in the first chunk of a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
}

/// Shapes a chat's answer.
struct ChatShape {
    base: Arc<ServedBase>,
    head: Head,
    logprobs: bool,
    /// Whether a choice has sent its first chunk.
    begun: Vec<bool>,
    /// The sum so far; `None` unless the usage is wanted in the stream.
    usage: Option<RequestUsage>,
}

impl ChatShape {
    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatChunk {
        ChatChunk { object: "chat.completion.chunk", head: self.head.clone(), choices, usage: self.usage.map(|_| None) }
    }

    fn choice(&self, index: usize, delta: Delta) -> ChatChunk {
        self.chunk(vec![ChunkChoice { index, delta, logprobs: None, finish_reason: None }])
    }

    fn text(&self, index: usize, text: String, tokens: &[Scored]) -> ChatChunk {
        let mut chunk = self.choice(index, Delta { role: None, content: Some(text) });
        chunk.choices[0].logprobs = self.logprobs.then(|| ChatLogprobs::new(self.base.tokenizer.vocabulary(), tokens));
        chunk
    }
}

impl Shape for ChatShape {
    type Chunk = ChatChunk;
    type Whole = ChatCompletion;

    fn whole(self, replies: Vec<WholeReply>) -> ChatCompletion {
        let mut usage = RequestUsage::default();
        let choices = replies.into_iter().enumerate().map(|(index, reply)| {
            usage.add(reply.usage, index == 0);
            ChatChoice {
                index,
                message: AnswerMessage { role: "assistant", content: reply.text, refusal: None },
                logprobs: self.logprobs.then(|| ChatLogprobs::new(self.base.tokenizer.vocabulary(), &reply.tokens)),
                finish_reason: reply.finish.as_str(),
            }
        });
        let choices = choices.collect();
        ChatCompletion { object: "chat.completion", head: self.head, choices, usage }
    }

    fn piece(&mut self, index: usize, piece: Piece, mut send: impl FnMut(ChatChunk)) {
        if !std::mem::replace(&mut self.begun[index], true) {
            let first = Delta { role: Some("assistant"), content: Some(String::new()) };
            send(self.choice(index, first));
        }
        match piece {
            // Never asked for in a chat.
            Piece::Prompt(_) => {}
            Piece::Delta { text, tokens } => send(self.text(index, text, &tokens)),
            Piece::End { finish, usage } => {
                if let Some(sum) = &mut self.usage {
                    sum.add(usage, index == 0);
                }
                let mut last = self.choice(index, Delta::default());
                last.choices[0].finish_reason = Some(finish.as_str());
                send(last);
            }
        }
    }

    fn end(&mut self) -> Option<ChatChunk> {
        let usage = self.usage?;
        Some(ChatChunk { usage: Some(Some(usage)), ..self.chunk(Vec::new()) })
    }
}
