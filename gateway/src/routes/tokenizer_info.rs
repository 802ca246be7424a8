//! `GET /tokenizer_info`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use souk_protocol::TokenId;
use utoipa::{IntoParams, ToSchema};

use super::tokenize::model_for;
use super::url::QueryOf;
use crate::auth::Caller;
use crate::error::{ApiError, ErrorBody};
use crate::gateway::Gateway;

/// Describes a tokenizer, for clients that render the chat template themselves.
///
/// Scope: `inference`. For an adapter with a chat template of its own, that is the one that is shown.
#[utoipa::path(
    get,
    path = "/tokenizer_info",
    tag = "tokens",
    security(("api_key" = [])),
    params(TokenizerInfoQuery),
    responses(
        (status = 200, description = "The tokenizer", body = TokenizerInfo),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(crate) async fn tokenizer_info(
    State(gateway): State<Gateway>,
    Caller { principal, .. }: Caller,
    QueryOf(query): QueryOf<TokenizerInfoQuery>,
) -> Result<Json<TokenizerInfo>, ApiError> {
    let model = model_for(&gateway, &principal, query.model.as_deref()).await?;
    let own = model.template(&gateway).await?;
    let base = model.base;
    let text = |id: Option<TokenId>| id.map(|id| base.tokenizer.vocabulary().text(id));
    Ok(Json(TokenizerInfo {
        tokenizer_class: "PreTrainedTokenizerFast",
        model: base.id.clone(),
        eos_token: text(base.eos_tokens.first().copied()),
        bos_token: text(base.bos_token),
        pad_token: text(base.pad_token),
        chat_template: own.map(|own| own.source.clone()).or_else(|| base.chat_template.clone()),
        vocab_size: base.tokenizer.vocabulary().len(),
        model_max_length: base.context_tokens(),
    }))
}

/// Which tokenizer.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TokenizerInfoQuery {
    /// A model: its base's tokenizer is meant, and its own chat template where it has one. Default is the first base model.
    pub model: Option<String>,
}

/// A tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TokenizerInfo {
    /// Name of the nearest class in the transformers library.
    pub tokenizer_class: &'static str,
    /// Id of the base model.
    pub model: String,
    /// The token that ends an answer.
    #[schema(required)]
    pub eos_token: Option<String>,
    /// The token that begins a text.
    #[schema(required)]
    pub bos_token: Option<String>,
    /// The padding token.
    #[schema(required)]
    pub pad_token: Option<String>,
    /// Source of the chat template, in Jinja.
    #[schema(required)]
    pub chat_template: Option<String>,
    /// Number of entries in the vocabulary.
    pub vocab_size: usize,
    /// The model's context length in tokens.
    pub model_max_length: usize,
}
