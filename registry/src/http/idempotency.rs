//! The header `Idempotency-Key`; what it means is in [`crate::idempotency`].

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, MatchedPath, OriginalUri, RawPathParams, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use souk_http::idempotency::{self, IDEMPOTENCY_REPLAYED};
use souk_protocol::{Digest, Principal};

use super::JSON_BODY_BYTES;
use super::admit::Held;
use super::middleware::PREFIX;
use crate::Registry;
use crate::auth::AuthError;
use crate::error::RegistryError;
use crate::idempotency::{Claim, KeptAnswer, Once};
use crate::rights::{action_of, require};

/// Middleware for routes with a JSON body: claims the key and hands the handler a [`Once`].
pub(crate) async fn answer_once(
    State(registry): State<Registry>,
    request: Request,
    next: Next,
) -> Result<Response, RegistryError> {
    let Some(key) = key_of(request.headers())? else { return Ok(next.run(request).await) };
    let principal = request.extensions().get::<Principal>().cloned().ok_or(AuthError::Missing)?;
    // Before an answer is repeated: who may not do it does not hear what another key of the tenant made of it.
    let pattern =
        request.extensions().get::<MatchedPath>().map(|path| path.as_str().strip_prefix(PREFIX).unwrap_or_default());
    let action = pattern.and_then(|path| action_of(request.method().as_str(), path));
    let action = action.ok_or(AuthError::Missing)?;
    require(&principal, action)?;
    let route = route_of(&request);
    let (mut parts, body) = request.into_parts();
    let adapter = adapter_in(&mut parts).await;
    let too_large = |_| RegistryError::TooLarge { what: "the body".to_owned(), limit_bytes: JSON_BODY_BYTES as u64 };
    let body = to_bytes(body, JSON_BODY_BYTES).await.map_err(too_large)?;
    let body_digest = Digest::of(&body);
    let serving = registry.for_caller(&principal);
    let claim = match serving.claim(&principal, route, key).await? {
        Claim::Kept(kept) => {
            if let Some((owner, name)) = adapter {
                serving.adapter_for(&principal, action, &owner, &name).await?;
            }
            return Ok(kept.for_body(&body_digest)?.into_response());
        }
        Claim::New(claim) => claim,
    };
    let once = Once::new(Some(claim), body_digest);
    let mut request = Request::from_parts(parts, Body::from(body));
    request.extensions_mut().insert(once.clone());
    // A task of its own: what began is finished and kept also when the client goes away.
    let held = request.extensions().get::<Held>().cloned();
    let work = tokio::spawn(async move {
        let _held = held;
        let response = next.run(request).await;
        once.end().await;
        response
    });
    work.await.map_err(|error| RegistryError::Storage(std::io::Error::other(error)))
}

/// Owner and name of the adapter that the path names.
async fn adapter_in(parts: &mut Parts) -> Option<(String, String)> {
    let path = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let named = |wanted: &str| path.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned());
    named("owner").zip(named("name"))
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

/// The key that the caller chose.
pub(crate) fn key_of(headers: &HeaderMap) -> Result<Option<String>, RegistryError> {
    let key = idempotency::key(headers);
    let key = key.map_err(|error| RegistryError::bad_request("invalid_idempotency_key", error.to_string()))?;
    Ok(key.map(str::to_owned))
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
