//! The header `Idempotency-Key`; what it means is in [`crate::idempotency`].

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, OriginalUri, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use souk_protocol::{Digest, Principal};
use utoipa::IntoParams;

use super::JSON_BODY_BYTES;
use crate::Registry;
use crate::auth::AuthError;
use crate::error::RegistryError;
use crate::idempotency::{Claim, KeptAnswer, Once};

/// Longest key, as Stripe has it.
const MAX_KEY_CHARS: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its shape is read, by the derive")]
pub(crate) struct IdempotencyKey {
    /// 1 to 255 characters of the caller's choice. A repetition with the same key and body within 24 hours makes nothing
    /// and hears the first answer, with `idempotency-replayed: true`; with another body it is 422
    /// `idempotency_mismatch`, and 409 `idempotency_in_flight` while the first still runs.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

/// Middleware for routes with a JSON body: claims the key and hands the handler a [`Once`].
pub(crate) async fn answer_once(
    State(registry): State<Registry>,
    request: Request,
    next: Next,
) -> Result<Response, RegistryError> {
    let Some(key) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let principal = request.extensions().get::<Principal>().cloned().ok_or(AuthError::Missing)?;
    let route = route_of(&request);
    let (parts, body) = request.into_parts();
    let too_large = |_| RegistryError::TooLarge { what: "the body".to_owned(), limit_bytes: JSON_BODY_BYTES as u64 };
    let body = to_bytes(body, JSON_BODY_BYTES).await.map_err(too_large)?;
    let body_digest = Digest::of(&body);
    let claim = match registry.claim(&principal, route, key).await? {
        Claim::Kept(kept) => return Ok(kept.for_body(&body_digest)?.into_response()),
        Claim::New(claim) => claim,
    };
    let once = Once::new(Some(claim), body_digest);
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(once.clone());
    // A task of its own: what began is finished and kept also when the client goes away.
    let work = tokio::spawn(async move {
        let response = next.run(request).await;
        once.end().await;
        response
    });
    work.await.map_err(|error| RegistryError::Storage(std::io::Error::other(error)))
}

/// What [`answer_once`] handed over; without a key in the request it keeps nothing.
impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// The route that a key belongs to: the method and the path as called.
pub(crate) fn route_of(request: &Request) -> String {
    let path = request.extensions().get::<OriginalUri>().map_or_else(|| request.uri().path(), |uri| uri.0.path());
    format!("{} {path}", request.method())
}

/// The key that the caller chose, bare or in quotes.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<String>, RegistryError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if (1..=MAX_KEY_CHARS).contains(&key.len()) {
        return Ok(Some(key.to_owned()));
    }
    let detail = format!("Idempotency-Key is 1 to {MAX_KEY_CHARS} ASCII characters, given {}", value.len());
    Err(RegistryError::bad_request("invalid_idempotency_key", detail))
}

impl IntoResponse for KeptAnswer {
    fn into_response(self) -> Response {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true")),
        ];
        (StatusCode::from_u16(self.status).unwrap_or(StatusCode::OK), headers, self.body).into_response()
    }
}
