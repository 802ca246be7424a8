//! `POST /detokenize`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use souk_protocol::TokenId;
use utoipa::ToSchema;

use super::tokenize::base_for;
use crate::auth::Caller;
use crate::call::admit::Admission;
use crate::error::{ApiError, ErrorBody};
use crate::gateway::Gateway;
use crate::limits::GatewayLimits;
use crate::request::body::{FromFields, JsonBody};
use crate::request::completion::{BYTES_PER_TOKEN, token_ids};
use crate::request::fields::Fields;

/// Decodes token ids; control tokens show by their names.
///
/// Scope: `inference`. The ids are those of the base model's tokenizer, whatever adapter is named.
#[utoipa::path(
    post,
    path = "/detokenize",
    tag = "tokens",
    security(("api_key" = [])),
    request_body = DetokenizeRequest,
    responses(
        (status = 200, description = "The text", body = Detokenized),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "Failed", body = ErrorBody),
    )
)]
pub(crate) async fn detokenize(
    State(gateway): State<Gateway>,
    caller: Caller,
    JsonBody { request, bytes: _bytes, .. }: JsonBody<DetokenizeRequest>,
) -> Result<Json<Detokenized>, ApiError> {
    let _admission = Admission::take(&gateway, &caller.holder)?;
    let base = base_for(&gateway, &caller.principal, request.model.as_deref()).await?;
    let vocab_size = base.tokenizer.vocabulary().len();
    if let Some(id) = request.tokens.iter().find(|id| **id as usize >= vocab_size) {
        let message = format!("'tokens' has token {id}; the vocabulary has the ids 0 to {}.", vocab_size - 1);
        return Err(ApiError::invalid("tokens", message));
    }
    let num_bytes = request.tokens.len() * BYTES_PER_TOKEN;
    let decode = move || Ok(base.tokenizer.decode(&request.tokens));
    Ok(Json(Detokenized { prompt: gateway.texts_of(&caller.holder).run(num_bytes, decode).await? }))
}

/// Most tokens of a request: their text may be a hundred times as long as their numbers.
const MAX_TOKENS: usize = 65_536;

impl FromFields for DetokenizeRequest {
    fn parse(mut fields: Fields<'_>, _: &GatewayLimits) -> Result<Self, ApiError> {
        let model = fields.string("model")?;
        let tokens = fields.list("tokens")?.ok_or(ApiError::MissingParameter("tokens"))?;
        if tokens.len > MAX_TOKENS {
            let message = format!("'tokens' may have at most {MAX_TOKENS} entries; given {}.", tokens.len);
            return Err(ApiError::invalid("tokens", message));
        }
        let tokens = token_ids("tokens", tokens)?;
        fields.finish(&[])?;
        Ok(Self { model, tokens })
    }
}

/// What to decode.
#[derive(Clone, Debug, PartialEq, Eq, ToSchema)]
pub struct DetokenizeRequest {
    /// Whose tokenizer; default is the first base model's.
    pub model: Option<String>,
    /// Token ids, in the order of the text.
    pub tokens: Vec<TokenId>,
}

/// The text of token ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Detokenized {
    /// The text; bytes that are no text show as U+FFFD.
    pub prompt: String,
}
