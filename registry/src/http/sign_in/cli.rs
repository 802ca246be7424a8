//! `/sign-in/cli`: a program on the person's machine, `souk login`, asks for a key.

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use super::form::FormOf;
use super::page::{Failed, Page};
use super::visit::{done_path, from_our_page, query, session_in, with_token};
use crate::Registry;
use crate::error::RegistryError;
use crate::sign_in::{CodeRequest, ReturnTo};

/// What the program asks for, in the address that it opens.
#[derive(Deserialize)]
pub(super) struct Asked {
    /// The port of the loopback address where it waits.
    port: u16,
    state: String,
    challenge: String,
    name: String,
}

/// The form of the page below.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Allowed {
    csrf: String,
    port: u16,
    state: String,
    challenge: String,
    name: String,
}

pub(super) async fn show(
    State(registry): State<Registry>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let Query(Asked { port, state, challenge, name }) = asked
        .map_err(|_| RegistryError::bad_request("invalid_query", "this is not an address that `souk login` opens"))?;
    let port_text = port.to_string();
    let asked = [("port", port_text.as_str()), ("state", &state), ("challenge", &challenge), ("name", &name)];
    let request = CodeRequest::parse(port, &state, &challenge, &name)?;
    let Some(signed_in) = session_in(&registry, &headers).await? else {
        let here = format!("/sign-in/cli?{}", query(&asked));
        let return_to = ReturnTo::parse(&here).map(|path| query(&[("return_to", path.as_str())]));
        return Ok(Redirect::to(&format!("/sign-in?{}", return_to.unwrap_or_default())).into_response());
    };
    let (tenant, role) = signed_in.tenant.as_ref().ok_or(RegistryError::NoTenant)?;
    let csrf = signed_in.csrf_token();
    let fields: Vec<_> = asked.into_iter().chain([("csrf", csrf.as_str())]).collect();
    let page = Page::new("Sign in a terminal")
        .text(&format!(
            "A program that calls itself {name} asks for a key of yours, to act for {} as {}. Allow it only if you have just run souk login.",
            tenant.name,
            role.as_str()
        ))
        .form("/sign-in/cli", &fields, "Allow")
        .link(&done_path(None), "Act for another tenant, or as somebody else")
        .with_form_to(request.origin());
    Ok(page.into_response())
}

pub(super) async fn allow(
    State(registry): State<Registry>,
    headers: HeaderMap,
    FormOf(form): FormOf<Allowed>,
) -> Result<Redirect, Failed> {
    from_our_page(&registry, &headers)?;
    let signed_in = session_in(&registry, &headers).await?.ok_or(RegistryError::SessionOver)?;
    with_token(&signed_in, &form.csrf)?;
    let request = CodeRequest::parse(form.port, &form.state, &form.challenge, &form.name)?;
    let code = registry.make_login_code(&signed_in, &request).await?;
    let brought = query(&[("code", &code), ("state", &form.state)]);
    Ok(Redirect::to(&format!("{}/?{brought}", request.origin())))
}
