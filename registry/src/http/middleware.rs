//! What happens around every route: a request id, a log span, authentication, and answers where no handler runs.

use std::any::Any;

use axum::extract::{OriginalUri, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use souk_protocol::RequestId;
use tracing::Instrument as _;

use super::Problem;
use crate::Registry;
use crate::auth::AuthError;
use crate::error::RegistryError;

/// Largest body of a route that takes JSON. The largest field, a description, has 4,000 characters.
pub(crate) const JSON_BODY_BYTES: usize = 64 * 1024;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id of ours, which a client cannot choose, in the log and in the answer.
pub(crate) async fn tag_with_request_id(OriginalUri(uri): OriginalUri, request: Request, next: Next) -> Response {
    let id = RequestId::new();
    let span = tracing::info_span!("registry", request.id = %id, method = %request.method(), path = uri.path());
    let mut response = next.run(request).instrument(span).await;
    let value = HeaderValue::from_str(id.as_str()).expect("an id is ASCII");
    response.headers_mut().insert(X_REQUEST_ID, value);
    response
}

/// Puts the [`souk_protocol::Principal`] beside the request, or answers 401.
pub(crate) async fn authenticate(
    State(registry): State<Registry>,
    mut request: Request,
    next: Next,
) -> Result<Response, RegistryError> {
    let presented = bearer_token(request.headers()).ok_or(AuthError::Missing)?;
    let principal = registry.authenticate(presented).await?;
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Answers paths under the prefix that no route has.
pub(crate) async fn no_such_route(OriginalUri(uri): OriginalUri) -> RegistryError {
    RegistryError::NotFound { what: "route", name: uri.path().to_owned() }
}

/// Answers a method that a route does not have.
pub(crate) async fn no_such_method(method: Method, OriginalUri(uri): OriginalUri) -> Problem {
    let detail = format!("{method} is not allowed on {}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// A panic is a bug of ours; it ends one request with 500.
#[expect(clippy::needless_pass_by_value, reason = "the layer hands the cause over")]
pub(crate) fn answer_panic(cause: Box<dyn Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("unknown"), "A handler panicked");
    Problem::internal().into_response()
}
