use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use souk_http::bearer;
use souk_protocol::Scope;
use utoipa::ToSchema;

use crate::Registry;
use crate::auth::AuthError;
use crate::error::RegistryError;
use crate::http::{Body, Caller, Problems};
use crate::sessions::SignedIn;

/// What the token is to grant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExchangeToken {
    /// Some of the key's scopes; absent for all of them.
    #[schema(example = json!(["inference"]))]
    scopes: Option<Vec<String>>,
}

/// A token.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExchangedToken {
    /// To be sent as a key is: `Authorization: Bearer …`.
    access_token: String,
    /// `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds that it lives: 900, or what is left of the key.
    #[schema(example = 900)]
    expires_in: u64,
    /// What it grants.
    #[schema(example = json!(["inference"]))]
    scopes: Vec<&'static str>,
}

/// Exchanges the key or session that is presented for a token, which works wherever a key does and can be verified without
/// asking the registry. It ends with its key or session.
///
/// Any key and any session may do so. A scope that the key lacks answers 403 `scope_not_held`; a token in place of a key
/// 403 `token_for_token`.
#[utoipa::path(
    post, path = "/auth/token", tag = "auth",
    request_body = ExchangeToken,
    responses((status = 200, description = "The token, to be kept by nobody else", body = ExchangedToken), Problems)
)]
pub(crate) async fn exchange_token(
    State(registry): State<Registry>,
    caller: Caller,
    session: Option<Extension<Arc<SignedIn>>>,
    headers: HeaderMap,
    Body(request): Body<ExchangeToken>,
) -> Result<Response, RegistryError> {
    let token = match session {
        Some(Extension(signed_in)) => registry.exchange_session(&signed_in, request.scopes.as_deref()).await?,
        None => {
            let presented = bearer::token(&headers).map_err(|_| AuthError::Missing)?;
            registry.exchange(&caller.0, presented, request.scopes.as_deref()).await?
        }
    };
    let answer = ExchangedToken {
        access_token: token.token,
        token_type: "Bearer",
        expires_in: token.lives.as_secs(),
        scopes: token.scopes.into_iter().map(Scope::as_str).collect(),
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
