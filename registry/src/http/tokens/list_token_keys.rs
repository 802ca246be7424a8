use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::TokenKey;
use crate::Registry;
use crate::error::RegistryError;
use crate::http::Problems;

/// All keys that verify tokens: a JSON Web Key Set (RFC 7517).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenKeys {
    /// Newest first.
    keys: Vec<TokenKey>,
}

/// The public keys that verify tokens. A new one may appear at any time: ask again for a token whose `kid` is not among
/// them.
///
/// No key is needed.
#[utoipa::path(
    get, path = "/auth/jwks", tag = "auth",
    security(()),
    responses((status = 200, description = "The keys", body = TokenKeys), Problems)
)]
pub(crate) async fn list_token_keys(State(registry): State<Registry>) -> Result<Response, RegistryError> {
    let keys = registry.token_keys().await?.into_iter().map(TokenKey::from).collect();
    Ok(([(CACHE_CONTROL, "public, max-age=60")], Json(TokenKeys { keys })).into_response())
}
