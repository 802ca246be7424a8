//! `POST /v1/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use souk_protocol::hooks::HookRoute;
use souk_protocol::{RequestId, TokenId, wall_clock};
use utoipa::ToSchema;

use crate::auth::{Caller, RepeatHeader, RepeatParams};
use crate::call::admit::Admission;
use crate::call::ask::Ask;
use crate::call::gates::BodyBytes;
use crate::call::prepare::{Input, Length, PreparedPrompt};
use crate::call::repeat::Repeatable;
use crate::call::{self, Asker, Started};
use crate::error::{ApiError, ErrorBody};
use crate::gateway::Gateway;
use crate::reply::collect::WholeReply;
use crate::reply::logprobs::{CompletionLogprobs, OffsetCounter};
use crate::reply::piece::{Piece, Scored};
use crate::reply::respond::respond;
use crate::reply::shape::Shape;
use crate::reply::told::Told;
use crate::reply::usage::RequestUsage;
use crate::request::CompletionRequest;
use crate::request::body::JsonBody;
use crate::served::ServedBase;

/// What is asked for, as the API calls it.
const OPERATION: &str = "text_completion";

/// Continues texts.
///
/// Scope: `inference`. No chat template is applied: what is sent is what the model reads. `model` is as for conversations.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "inference",
    security(("api_key" = [])),
    params(RepeatParams),
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The answers; with `stream`, server-sent events of the same shape and a last `[DONE]`", content(
            (Completion = "application/json"), (Completion = "text/event-stream"))),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed or overloaded", body = ErrorBody),
    )
)]
pub(crate) async fn create_completion(
    State(gateway): State<Gateway>,
    caller: Caller,
    Extension(request_id): Extension<RequestId>,
    RepeatHeader(repeat): RepeatHeader,
    body: JsonBody<CompletionRequest>,
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
    JsonBody { request, bytes, .. }: JsonBody<CompletionRequest>,
    told: &mut Told,
) -> Result<Response, ApiError> {
    let admission = Admission::take(gateway, &caller.holder)?;
    let wishes = Wishes {
        model: request.model.clone(),
        echo: request.echo,
        logprobs: request.logprobs.is_some(),
        n: request.generation.n as usize,
        texts: request.echo.then_some(bytes),
        include_usage: request.generation.stream_options.is_some_and(|options| options.include_usage),
    };
    let asker = Asker {
        caller,
        admission: &admission,
        request: request_id,
        operation: OPERATION,
        route: HookRoute::Completions,
        repeatable,
    };
    let mut call = match call::begin(gateway, asker, request.into(), told).await? {
        Started::Call(call) => *call,
        Started::Repeated(response) => return Ok(response),
    };
    let shape = CompletionShape::new(request_id, wishes, &call.model.base, &mut call.prompts);
    respond(call, shape, admission, gateway.limits()).await
}

impl From<CompletionRequest> for Ask {
    fn from(request: CompletionRequest) -> Self {
        let length = if request.max_tokens_given { Length::AtMost } else { Length::Default };
        Self {
            model: request.model,
            length: length(request.max_tokens),
            logprobs: request.logprobs,
            prompt_logprobs: request.logprobs.filter(|_| request.echo),
            // The sum of the logprobs is over each generated token, the ending one included.
            score_ending: true,
            input: Input::Prompts { prompts: request.prompts, echo: request.echo },
            params: request.generation,
        }
    }
}

/// What the shape of the answer depends on.
struct Wishes {
    model: String,
    echo: bool,
    logprobs: bool,
    n: usize,
    /// What the prompts' texts count as, where they are held until the answer has ended.
    texts: Option<BodyBytes>,
    /// In a stream.
    include_usage: bool,
}

/// What stands before an answer; empty without `echo`.
#[derive(Clone, Debug)]
struct Echo {
    /// All choices of a prompt share it.
    text: Arc<str>,
    tokens: Arc<[TokenId]>,
}

/// Text completions: whole, or a part of a stream, in which the lists and texts are what is new.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Completion {
    /// Unique id of the answer; the same in all parts.
    #[schema(value_type = String)]
    pub id: Arc<str>,
    /// `text_completion`.
    pub object: &'static str,
    /// When the answer was begun, in seconds since the Unix epoch.
    pub created: u64,
    /// The model as it was asked for; the header `x-souk-adapter-digest` says what it meant.
    #[schema(value_type = String)]
    pub model: Arc<str>,
    /// Identifies the base model's weights.
    #[schema(value_type = String)]
    pub system_fingerprint: Arc<str>,
    /// Choice `c` of prompt `p` has the index `p * n + c`.
    pub choices: Vec<CompletionChoice>,
    /// Token counts. In a stream absent unless `include_usage` was set, and then null in all parts but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RequestUsage>)]
    pub usage: Option<Option<RequestUsage>>,
}

/// One choice, or what is new in it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CompletionChoice {
    /// The answer's text, after the prompt where `echo` is set; in a stream what is new of it.
    pub text: String,
    /// The number of the choice, from 0.
    pub index: usize,
    /// Present where asked for.
    #[schema(required)]
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop`, `length`, or `content_filter` where a hook ended it; null in a stream before the choice's last part.
    #[schema(required)]
    pub finish_reason: Option<&'static str>,
}

/// Shapes text completions.
struct CompletionShape {
    base: Arc<ServedBase>,
    /// All but choices and usage.
    head: Completion,
    echo: bool,
    logprobs: bool,
    n: usize,
    choices: Vec<ChoiceState>,
    _texts: Option<BodyBytes>,
    /// `None` unless the usage is wanted in the stream.
    usage: Option<RequestUsage>,
}

struct ChoiceState {
    /// `None` once it was sent.
    echo: Option<Echo>,
    offsets: OffsetCounter,
}

impl CompletionShape {
    fn new(request_id: &RequestId, wishes: Wishes, base: &Arc<ServedBase>, prompts: &mut [PreparedPrompt]) -> Self {
        let Wishes { model, echo, logprobs, n, texts, include_usage } = wishes;
        let id = request_id.as_str().trim_start_matches("req_");
        let echoes = prompts.iter_mut().map(|prompt| Echo {
            text: std::mem::take(&mut prompt.text).into(),
            tokens: if echo { std::mem::take(&mut prompt.tokens) } else { Vec::new() }.into(),
        });
        let choices = echoes.flat_map(|echo| std::iter::repeat_n(echo, n));
        let choices = choices.map(|echo| ChoiceState { echo: Some(echo), offsets: OffsetCounter::default() });
        Self {
            base: Arc::clone(base),
            head: Completion {
                id: format!("cmpl-{id}").into(),
                object: "text_completion",
                created: wall_clock::since_epoch().as_secs(),
                model: model.into(),
                system_fingerprint: base.fingerprint().into(),
                choices: Vec::new(),
                usage: include_usage.then_some(None),
            },
            echo,
            logprobs,
            n,
            choices: choices.collect(),
            _texts: texts,
            usage: include_usage.then(RequestUsage::default),
        }
    }

    /// The prompt of a choice as the begin of its text.
    fn echoed(&mut self, index: usize, scores: &[Option<souk_protocol::TokenLogprobs>]) -> Option<CompletionChoice> {
        let state = &mut self.choices[index];
        let echo = state.echo.take().filter(|_| self.echo)?;
        let logprobs = self.logprobs.then(|| {
            let mut logprobs = CompletionLogprobs::default();
            for (place, &id) in echo.tokens.iter().enumerate() {
                let score = scores.get(place).and_then(Option::as_ref);
                logprobs.push(self.base.tokenizer.vocabulary(), &mut state.offsets, id, score);
            }
            logprobs
        });
        Some(CompletionChoice { text: echo.text.to_string(), index, logprobs, finish_reason: None })
    }

    fn generated(&mut self, index: usize, text: String, tokens: &[Scored]) -> CompletionChoice {
        let state = &mut self.choices[index];
        let logprobs = self.logprobs.then(|| {
            let mut logprobs = CompletionLogprobs::default();
            for token in tokens {
                let vocabulary = self.base.tokenizer.vocabulary();
                logprobs.push(vocabulary, &mut state.offsets, token.id, Some(&token.logprobs));
            }
            logprobs
        });
        CompletionChoice { text, index, logprobs, finish_reason: None }
    }

    fn part(&self, choice: CompletionChoice) -> Completion {
        Completion { choices: vec![choice], ..self.head.clone() }
    }
}

fn joined(mut first: CompletionChoice, second: CompletionChoice) -> CompletionChoice {
    first.text.push_str(&second.text);
    if let (Some(logprobs), Some(more)) = (&mut first.logprobs, second.logprobs) {
        logprobs.append(more);
    }
    first
}

impl Shape for CompletionShape {
    type Chunk = Completion;
    type Whole = Completion;

    fn whole(mut self, replies: Vec<WholeReply>) -> Completion {
        let mut usage = RequestUsage::default();
        let mut choices = Vec::with_capacity(replies.len());
        for (index, reply) in replies.into_iter().enumerate() {
            usage.add(reply.usage, index.is_multiple_of(self.n));
            let echoed = self.echoed(index, &reply.prompt);
            let generated = self.generated(index, reply.text, &reply.tokens);
            let mut choice = match echoed {
                Some(echoed) => joined(echoed, generated),
                None => generated,
            };
            choice.finish_reason = Some(reply.finish.as_str());
            choices.push(choice);
        }
        Completion { choices, usage: Some(Some(usage)), ..self.head }
    }

    fn piece(&mut self, index: usize, piece: Piece, mut send: impl FnMut(Completion)) {
        let scores = if let Piece::Prompt(scores) = &piece { scores.as_slice() } else { &[] };
        let echoed = self.echoed(index, scores);
        if let Some(echoed) = echoed {
            send(self.part(echoed));
        }
        match piece {
            Piece::Prompt(_) => {}
            Piece::Delta { text, tokens } => {
                let choice = self.generated(index, text, &tokens);
                send(self.part(choice));
            }
            Piece::End { finish, usage } => {
                if let Some(sum) = &mut self.usage {
                    sum.add(usage, index.is_multiple_of(self.n));
                }
                let finish_reason = Some(finish.as_str());
                send(self.part(CompletionChoice { text: String::new(), index, logprobs: None, finish_reason }));
            }
        }
    }

    fn end(&mut self) -> Option<Completion> {
        let usage = self.usage?;
        Some(Completion { usage: Some(Some(usage)), ..self.head.clone() })
    }
}
