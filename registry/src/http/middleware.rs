//! What happens around every route beyond the crust of [`souk_http`]: authentication, and answers where no handler
//! runs.

use std::sync::Arc;

use axum::extract::{MatchedPath, OriginalUri, Request, State};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use souk_http::Service;
use souk_http::bearer::{self, BearerError};
use souk_http::problem::Problem;
use souk_http::public_port::ByPublicPort;
use souk_protocol::Scope;

use crate::Registry;
use crate::auth::AuthError;
use crate::error::RegistryError;
use crate::rights::{action_of, is_of_session};
use crate::sessions::{SESSION_COOKIE, SignedIn, cookie_in};

/// Where all routes live.
pub(crate) const PREFIX: &str = "/registry/v1";

/// Largest body of a route that takes JSON. The largest field, a description, has 4,000 characters.
pub(crate) const JSON_BODY_BYTES: usize = 64 * 1024;

/// Has the token of the session that a page of ours sends along.
const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

/// The registry as its log and its figures name it.
pub(crate) static SERVICE: Service = Service {
    name: "registry",
    requests: "souk_registry_requests_total",
    request_seconds: "souk_registry_request_seconds",
    answer_panic: |message| {
        tracing::error!(panic = message, "A handler panicked");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the registry cannot answer now").into_response()
    },
};

/// Puts the [`souk_protocol::Principal`] beside the request, or answers 401; 403 to operators who come by the wrong
/// port. Who presents no key may present a session.
pub(crate) async fn authenticate(
    State(registry): State<Registry>,
    mut request: Request,
    next: Next,
) -> Result<Response, RegistryError> {
    if !request.headers().contains_key(AUTHORIZATION)
        && let Some(cookie) = cookie_in(request.headers(), SESSION_COOKIE)
    {
        let signed_in = registry.signed_in(cookie).await?;
        check_sender(&registry, &signed_in, &request)?;
        match signed_in.principal() {
            Some(principal) => drop(request.extensions_mut().insert(principal)),
            None if acts_for_itself(&request) => {}
            None => return Err(RegistryError::NoTenant),
        }
        request.extensions_mut().insert(Arc::new(signed_in));
        return Ok(next.run(request).await);
    }
    let principal = registry.authenticate(presented(request.headers())?).await?;
    if request.extensions().get::<ByPublicPort>().is_some() && principal.may(Scope::Admin) {
        return Err(RegistryError::OperatorsPortOnly);
    }
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

/// What a caller presents.
pub(crate) fn presented(headers: &HeaderMap) -> Result<&str, AuthError> {
    bearer::token(headers).map_err(|error| match error {
        BearerError::Missing => AuthError::Missing,
        BearerError::Malformed => AuthError::Invalid,
    })
}

/// Notes that something may have changed after each request that is no read, before its caller hears of it.
pub(crate) async fn note_changes(State(registry): State<Registry>, request: Request, next: Next) -> Response {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let _noted = (!is_read).then(|| registry.changes.note_on_drop());
    next.run(request).await
}

/// Ends a call that changes something and that another site's page may have sent: browsers send cookies by themselves.
/// Either sign alone would do; a browser that leaves one out is not known.
fn check_sender(registry: &Registry, signed_in: &SignedIn, request: &Request) -> Result<(), RegistryError> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let text = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_ours = text(ORIGIN) == Some(registry.public_url()?.origin());
    let has_token = text(X_CSRF_TOKEN).is_some_and(|token| signed_in.is_csrf_token(token));
    if is_ours && has_token { Ok(()) } else { Err(RegistryError::Forged) }
}

/// Whether the route is for a person who is a member of no tenant, too.
fn acts_for_itself(request: &Request) -> bool {
    let pattern = request.extensions().get::<MatchedPath>().and_then(|path| path.as_str().strip_prefix(PREFIX));
    let action = pattern.and_then(|path| action_of(request.method().as_str(), path));
    action.is_some_and(is_of_session)
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
