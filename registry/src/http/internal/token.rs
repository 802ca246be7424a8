use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse as _, Response};
use souk_protocol::internal::NewToken;

use crate::Registry;
use crate::error::RegistryError;
use crate::http::middleware::presented;

/// Exchanges a service's key for a token.
pub(super) async fn exchange(State(registry): State<Registry>, headers: HeaderMap) -> Result<Response, RegistryError> {
    let new = registry.exchange_for_service(presented(&headers)?).await?;
    let answer = NewToken { access_token: new.token, expires_in: new.lives.as_secs(), issuer: new.issuer };
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}
