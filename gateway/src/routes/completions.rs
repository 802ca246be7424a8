//! `POST /v1/completions`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use souk_protocol::{RequestId, TokenId};
use utoipa::ToSchema;

use crate::admission::Admission;
use crate::answer::logprobs::{CompletionLogprobs, OffsetCounter};
use crate::answer::sse::{self, ChunkShape};
use crate::answer::usage::RequestUsage;
use crate::answer::{Answer, AnswerShape, Piece, Scored, WholeAnswer, collect, interleave};
use crate::auth::Caller;
use crate::dispatch::{Plan, PlannedPrompt, Wanted, dispatch, identify};
use crate::error::{ApiError, ErrorBody};
use crate::gateway::{Gateway, unix_now};
use crate::request::body::JsonBody;
use crate::request::{CompletionRequest, Prompt};
use crate::served::{Begin, ServedBase};

/// Continues texts.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "inference",
    security(("api_key" = [])),
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
    Caller(principal): Caller,
    admission: Admission,
    Extension(request_id): Extension<RequestId>,
    JsonBody(fields): JsonBody,
) -> Result<Response, ApiError> {
    let mut request = CompletionRequest::parse(fields, gateway.limits())?;
    let model = gateway.resolve_weighted(&principal, &request.model, &request.generation.adapters).await?;
    let prompts = std::mem::take(&mut request.prompts);
    let (prompts, echoes) = encode(&model.base, prompts, &request).await?;
    let prompt_logprobs = request.logprobs.filter(|_| request.echo);
    let generation = &request.generation;
    let num_prompt_tokens: Vec<usize> = prompts.iter().map(|prompt| prompt.tokens.len()).collect();
    let plan = Plan {
        request: request_id.clone(),
        tenant: principal.tenant,
        model: &model,
        prompts,
        generation,
        logprobs: request.logprobs,
        prompt_logprobs,
    };
    let jobs = dispatch(&gateway, plan).await?;
    let eos_tokens = if generation.ignore_eos { &[] } else { model.base.eos_tokens.as_slice() };
    let n = generation.n as usize;
    let answers = jobs.into_iter().enumerate().map(|(index, job)| {
        let shape = AnswerShape {
            base: &model.base,
            stops: &generation.stop,
            eos_tokens,
            // Whoever sums the logprobs needs each generated token, the ending one too.
            score_ending: true,
            num_prompt_tokens: num_prompt_tokens[index / n],
            prompt_logprobs: prompt_logprobs.is_some(),
        };
        Answer::new(job, &shape)
    });
    let answers = interleave(answers.collect(), generation.constraint.as_ref());
    let shape = CompletionShape::new(&request_id, &request, &model.base, echoes);
    let response = if generation.stream {
        let answers =
            if generation.constraint.is_some() { sse::begun(answers, gateway.limits()).await? } else { answers };
        sse::respond(answers, shape, admission, gateway.limits())
    } else {
        let whole = collect(answers, shape.choices.len()).await?;
        Json(shape.whole(whole)).into_response()
    };
    Ok(identify(response, &model))
}

/// Encodes the prompts, and keeps what is to be echoed of them.
async fn encode(
    base: &Arc<ServedBase>,
    prompts: Vec<Prompt>,
    request: &CompletionRequest,
) -> Result<(Vec<PlannedPrompt>, Vec<Echo>), ApiError> {
    let wanted = if request.max_tokens_given { Wanted::AtMost } else { Wanted::Default };
    let (mut planned, mut echoes) = (Vec::with_capacity(prompts.len()), Vec::with_capacity(prompts.len()));
    for prompt in prompts {
        let (text, tokens) = match prompt {
            Prompt::Text(text) => {
                let echoed = if request.echo { text.clone() } else { String::new() };
                (echoed, base.encode_prompt(text, Begin::AsModelWants).await?)
            }
            Prompt::Tokens(tokens) if request.echo => (base.tokenizer.decode(&tokens), tokens),
            Prompt::Tokens(tokens) => (String::new(), tokens),
        };
        let prompt = PlannedPrompt::new(base, "prompt", tokens, wanted(request.max_tokens))?;
        echoes.push(Echo { text, tokens: if request.echo { prompt.tokens.clone() } else { Vec::new() } });
        planned.push(prompt);
    }
    Ok((planned, echoes))
}

/// What stands before an answer; empty without `echo`.
#[derive(Clone, Debug)]
struct Echo {
    text: String,
    tokens: Vec<TokenId>,
}

/// Text completions: whole, or a part of a stream, in which the lists and texts are what is new.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Completion {
    /// Unique id of the answer; the same in all parts.
    pub id: String,
    /// `text_completion`.
    pub object: &'static str,
    /// When the answer was begun, in seconds since the Unix epoch.
    pub created: u64,
    /// The model as it was asked for; the header `x-souk-adapter-digest` says what it meant.
    pub model: String,
    /// Identifies the base model's weights.
    pub system_fingerprint: String,
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
    /// The text.
    pub text: String,
    /// Its number.
    pub index: usize,
    /// Present where asked for.
    #[schema(required)]
    pub logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; null in a stream before the choice's last part.
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
    /// `None` unless the usage is wanted in the stream.
    usage: Option<RequestUsage>,
}

struct ChoiceState {
    /// `None` once it was sent.
    echo: Option<Echo>,
    offsets: OffsetCounter,
}

impl CompletionShape {
    fn new(request_id: &RequestId, request: &CompletionRequest, base: &Arc<ServedBase>, echoes: Vec<Echo>) -> Self {
        let n = request.generation.n as usize;
        let id = request_id.as_str().trim_start_matches("req_");
        let include_usage = request.generation.stream_options.is_some_and(|options| options.include_usage);
        let choices = echoes.into_iter().flat_map(|echo| std::iter::repeat_n(echo, n));
        let choices = choices.map(|echo| ChoiceState { echo: Some(echo), offsets: OffsetCounter::default() });
        Self {
            base: Arc::clone(base),
            head: Completion {
                id: format!("cmpl-{id}"),
                object: "text_completion",
                created: unix_now().as_secs(),
                model: request.model.clone(),
                system_fingerprint: base.fingerprint(),
                choices: Vec::new(),
                usage: include_usage.then_some(None),
            },
            echo: request.echo,
            logprobs: request.logprobs.is_some(),
            n,
            choices: choices.collect(),
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
        Some(CompletionChoice { text: echo.text, index, logprobs, finish_reason: None })
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

    fn whole(mut self, answers: Vec<WholeAnswer>) -> Completion {
        let mut usage = RequestUsage::default();
        let mut choices = Vec::with_capacity(answers.len());
        for (index, answer) in answers.into_iter().enumerate() {
            usage.add(answer.usage, index.is_multiple_of(self.n));
            let echoed = self.echoed(index, &answer.prompt);
            let generated = self.generated(index, answer.text, &answer.tokens);
            let mut choice = match echoed {
                Some(echoed) => joined(echoed, generated),
                None => generated,
            };
            choice.finish_reason = Some(answer.finish.as_str());
            choices.push(choice);
        }
        Completion { choices, usage: Some(Some(usage)), ..self.head }
    }
}

fn joined(mut first: CompletionChoice, second: CompletionChoice) -> CompletionChoice {
    first.text.push_str(&second.text);
    if let (Some(logprobs), Some(more)) = (&mut first.logprobs, second.logprobs) {
        logprobs.append(more);
    }
    first
}

impl ChunkShape for CompletionShape {
    type Chunk = Completion;

    fn piece(&mut self, index: usize, piece: Piece) -> Vec<Completion> {
        let scores = if let Piece::Prompt(scores) = &piece { scores.as_slice() } else { &[] };
        let echoed = self.echoed(index, scores);
        let mut parts: Vec<Completion> = echoed.map(|choice| self.part(choice)).into_iter().collect();
        match piece {
            Piece::Prompt(_) => {}
            Piece::Delta { text, tokens } => {
                let choice = self.generated(index, text, &tokens);
                parts.push(self.part(choice));
            }
            Piece::End { finish, usage } => {
                if let Some(sum) = &mut self.usage {
                    sum.add(usage, index.is_multiple_of(self.n));
                }
                let finish_reason = Some(finish.as_str());
                parts.push(self.part(CompletionChoice { text: String::new(), index, logprobs: None, finish_reason }));
            }
        }
        parts
    }

    fn end(&mut self) -> Option<Completion> {
        let usage = self.usage?;
        Some(Completion { usage: Some(Some(usage)), ..self.head.clone() })
    }
}
