//! `/sign-in/provider`: to a provider of identities, and back.

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::{HeaderValue, SET_COOKIE};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use super::form::{FormOf, GoingOn};
use super::page::{Failed, Page};
use super::visit::{arrival, client_of, from_our_page, landed, with_cookie, with_token};
use crate::Registry;
use crate::error::RegistryError;
use crate::sessions::{LOGIN_COOKIE, SameSite, cookie_in, gone_cookie, new_cookie};
use crate::sign_in::{ComingBack, LOGIN_TIME, Purpose};

/// What somebody goes to a provider for.
#[derive(Deserialize)]
pub(super) struct Going {
    /// The end of an invitation's link.
    invitation: Option<String>,
}

/// The form that lets a provider know who is signed in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Connecting {
    csrf: String,
}

/// What somebody comes back with.
#[derive(Deserialize)]
pub(super) struct Back {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

pub(super) async fn go(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(going): Query<Going>,
    GoingOn(return_to): GoingOn,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let purpose = Purpose { return_to, invitation: going.invitation, connects: false };
    let (address, secret) = registry.begin_login(&name, purpose, arrival(&registry, &headers).await?).await?;
    // Lax: the browser comes back from another site.
    let cookie = new_cookie(LOGIN_COOKIE, &secret.expose(), SameSite::Lax, LOGIN_TIME);
    Ok(with_cookie(Redirect::to(&address), &cookie))
}

/// The same for who is signed in and is to be known by the provider from now on. A form, since whoever leads somebody's
/// browser here could else have an account of their own known as that person.
pub(super) async fn connect(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    headers: HeaderMap,
    FormOf(form): FormOf<Connecting>,
) -> Result<Response, Failed> {
    from_our_page(&registry, &headers)?;
    let arrival = arrival(&registry, &headers).await?;
    with_token(arrival.signed_in.as_ref().ok_or(RegistryError::SessionNeeded)?, &form.csrf)?;
    let purpose = Purpose { return_to: None, invitation: None, connects: true };
    let (address, secret) = registry.begin_login(&name, purpose, arrival).await?;
    let cookie = new_cookie(LOGIN_COOKIE, &secret.expose(), SameSite::Lax, LOGIN_TIME);
    // Forms of these pages lead to no other site, not by a redirect either.
    Ok(with_cookie(Page::new("On to the provider").leading_to(&address), &cookie))
}

pub(super) async fn come_back(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    back: Query<Back>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let Query(Back { code, state, error, iss }) = back;
    let back = ComingBack { code, state, error, iss };
    let cookie = cookie_in(&headers, LOGIN_COOKIE);
    let finished = registry.finish_login(&name, back, cookie, client_of(&headers)).await;
    let mut answer = match finished {
        Ok((cookie, return_to)) => landed(&registry, &cookie, return_to.as_ref()),
        Err(error) => Failed(error).into_response(),
    };
    let gone = HeaderValue::from_str(&gone_cookie(LOGIN_COOKIE)).expect("a cookie is ASCII");
    answer.headers_mut().append(SET_COOKIE, gone);
    Ok(answer)
}
