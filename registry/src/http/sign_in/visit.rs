//! What the pages have in common: who opens them, whether a form is one of ours, and how a session begins.

use axum::http::header::{ORIGIN, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::page::Page;
use crate::Registry;
use crate::error::RegistryError;
use crate::people::Secret;
use crate::sessions::{SESSION_COOKIE, SameSite, SignedIn, cookie_in, new_cookie};
use crate::sign_in::{Arrival, ReturnTo};

/// What is kept of what a browser calls itself.
const CLIENT_CHARS: usize = 200;

/// The session that the browser presents; `None` without one, and for one that is over.
pub(super) async fn session_in(registry: &Registry, headers: &HeaderMap) -> Result<Option<SignedIn>, RegistryError> {
    let Some(cookie) = cookie_in(headers, SESSION_COOKIE) else { return Ok(None) };
    match registry.signed_in(cookie).await {
        Ok(signed_in) => Ok(Some(signed_in)),
        Err(RegistryError::SessionInvalid | RegistryError::SessionOver) => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn arrival(registry: &Registry, headers: &HeaderMap) -> Result<Arrival, RegistryError> {
    Ok(Arrival { client: client_of(headers), signed_in: session_in(registry, headers).await? })
}

/// What the browser calls itself.
pub(super) fn client_of(headers: &HeaderMap) -> Option<String> {
    let client = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    client.map(|text| text.chars().take(CLIENT_CHARS).collect())
}

/// Ends a form that a page of another site has sent: with one, somebody could be signed in as somebody else.
pub(super) fn from_our_page(registry: &Registry, headers: &HeaderMap) -> Result<(), RegistryError> {
    let origin = headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    if origin == Some(registry.public_url()?.origin()) { Ok(()) } else { Err(RegistryError::Forged) }
}

/// Ends a form that acts with a session and does not know its token.
pub(super) fn with_token(signed_in: &SignedIn, token: &str) -> Result<(), RegistryError> {
    if signed_in.is_csrf_token(token) { Ok(()) } else { Err(RegistryError::Forged) }
}

/// The answer that a session begins with.
pub(super) fn landed(registry: &Registry, cookie: &Secret, return_to: Option<&ReturnTo>) -> Response {
    let page = Page::new("Signed in").leading_to(&done_path(return_to));
    with_cookie(page, &new_cookie(SESSION_COOKIE, &cookie.expose(), SameSite::Strict, registry.session_lives()))
}

/// Where a sign-in ends.
pub(super) fn done_path(return_to: Option<&ReturnTo>) -> String {
    match return_to {
        None => "/sign-in/done".to_owned(),
        Some(path) => format!("/sign-in/done?{}", query(&[("return_to", path.as_str())])),
    }
}

pub(super) fn with_cookie(page: impl IntoResponse, cookie: &str) -> Response {
    let cookie = HeaderValue::from_str(cookie).expect("a cookie is ASCII");
    ([(SET_COOKIE, cookie)], page).into_response()
}

/// A query, as addresses and forms have it.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).expect("pairs of texts")
}
