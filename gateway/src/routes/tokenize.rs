//! `POST /tokenize`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use souk_protocol::{Principal, TokenId};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::call::admit::Admission;
use crate::call::authorise::CalledModel;
use crate::error::{ApiError, ErrorBody};
use crate::gateway::Gateway;
use crate::limits::GatewayLimits;
use crate::request::ChatMessage;
use crate::request::body::{FromFields, JsonBody};
use crate::request::chat::parse_messages;
use crate::request::completion::BYTES_PER_TOKEN;
use crate::request::fields::Fields;
use crate::served::{Begin, ServedBase};

/// Encodes a text, or a conversation by the model's chat template.
///
/// Scope: `inference`. Of `prompt` and `messages` one is given. It tells how many tokens a call would have, and runs no model.
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "tokens",
    security(("api_key" = [])),
    request_body = TokenizeRequest,
    responses(
        (status = 200, description = "The token ids", body = Tokenized),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(crate) async fn tokenize(
    State(gateway): State<Gateway>,
    caller: Caller,
    JsonBody { request, bytes: _bytes, .. }: JsonBody<TokenizeRequest>,
) -> Result<Json<Tokenized>, ApiError> {
    let _admission = Admission::take(&gateway, &caller.holder)?;
    let model = model_for(&gateway, &caller.principal, request.model.as_deref()).await?;
    let (base, texts) = (Arc::clone(&model.base), gateway.texts_of(&caller.holder));
    let tokens = if let Some(messages) = request.messages {
        let messages = messages.into_iter().map(Into::into).collect();
        let own = model.template(&gateway).await?;
        base.encode_chat(texts, messages, own, request.add_generation_prompt).await?
    } else {
        let begin = if request.add_special_tokens { Begin::AsModelWants } else { Begin::Bare };
        let (base, prompt) = (Arc::clone(&base), request.prompt.unwrap_or_default());
        texts.run(prompt.len(), move || base.encode_prompt(&prompt, begin)).await?
    };
    let num_tokens = tokens.len();
    // Texts of so many tokens take about as long as encoding them did.
    let answer = move || {
        let text = |id: &TokenId| base.tokenizer.vocabulary().text(*id);
        let token_strs = request.return_token_strs.then(|| tokens.iter().map(text).collect());
        Ok(Tokenized { count: tokens.len(), max_model_len: base.context_tokens(), tokens, token_strs })
    };
    Ok(Json(texts.run(num_tokens * BYTES_PER_TOKEN, answer).await?))
}

/// The base model whose tokenizer is meant: that of `model`, or the default one.
pub(super) async fn base_for(
    gateway: &Gateway,
    principal: &Principal,
    model: Option<&str>,
) -> Result<Arc<ServedBase>, ApiError> {
    Ok(model_for(gateway, principal, model).await?.base)
}

/// The model whose tokenizer and template are meant; by default the first base model.
pub(super) async fn model_for(
    gateway: &Gateway,
    principal: &Principal,
    model: Option<&str>,
) -> Result<CalledModel, ApiError> {
    match model {
        Some(model) => CalledModel::of(gateway, principal, model).await,
        None => Ok(CalledModel::of_base(&gateway.bases()[0])),
    }
}

/// What to encode: `prompt` or `messages`.
#[derive(Clone, Debug, PartialEq, ToSchema)]
pub struct TokenizeRequest {
    /// Whose tokenizer; default is the first base model's.
    pub model: Option<String>,
    /// A text. Nothing in it means a control token.
    pub prompt: Option<String>,
    /// A conversation.
    pub messages: Option<Vec<ChatMessage>>,
    /// Puts the token that begins a text before `prompt`, where the model wants one. Default true.
    #[schema(required = false)]
    pub add_special_tokens: bool,
    /// Puts the begin of the answer after `messages`. Default true.
    #[schema(required = false)]
    pub add_generation_prompt: bool,
    /// Also returns the text of each token.
    #[schema(required = false)]
    pub return_token_strs: bool,
}

impl FromFields for TokenizeRequest {
    fn parse(mut fields: Fields<'_>, limits: &GatewayLimits) -> Result<Self, ApiError> {
        let model = fields.string("model")?;
        let prompt = fields.string("prompt")?;
        let has_messages = fields.has("messages");
        if prompt.is_some() == has_messages {
            return Err(ApiError::invalid("prompt", "Give either 'prompt' or 'messages'."));
        }
        let messages = has_messages.then(|| parse_messages(&mut fields, limits)).transpose()?;
        let request = Self {
            model,
            prompt,
            messages,
            add_special_tokens: fields.boolean("add_special_tokens")?.unwrap_or(true),
            add_generation_prompt: fields.boolean("add_generation_prompt")?.unwrap_or(true),
            return_token_strs: fields.boolean("return_token_strs")?.unwrap_or(false),
        };
        fields.refuse_unless("continue_final_message", "false")?;
        fields.finish(&[])?;
        Ok(request)
    }
}

/// Token ids of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Tokenized {
    /// Token ids, in the order of the text.
    pub tokens: Vec<TokenId>,
    /// How many there are.
    pub count: usize,
    /// The model's context length in tokens.
    pub max_model_len: usize,
    /// Text of each token, where asked for.
    #[schema(required)]
    pub token_strs: Option<Vec<String>>,
}
