//! `/sign-in/done`: where a sign-in ends. The browser has kept the session's cookie, or is told that it has not.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use super::form::{FormOf, GoingOn};
use super::page::{Failed, Page};
use super::visit::{done_path, from_our_page, session_in, with_cookie, with_token};
use crate::Registry;
use crate::error::RegistryError;
use crate::sessions::{SESSION_COOKIE, gone_cookie};

/// The form that chooses a tenant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChosenTenant {
    csrf: String,
    tenant: String,
}

/// The form that signs out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SigningOut {
    csrf: String,
}

pub(super) async fn show(
    State(registry): State<Registry>,
    GoingOn(return_to): GoingOn,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let Some(signed_in) = session_in(&registry, &headers).await? else {
        return Ok(not_kept(&registry)?.into_response());
    };
    if let Some(path) = return_to {
        return Ok(Redirect::to(path.as_str()).into_response());
    }
    let person = &signed_in.person;
    let mut page = Page::new("Signed in").text(&format!("You are signed in as {}.", person.called()));
    page = match &signed_in.tenant {
        Some((tenant, role)) => page.text(&format!("You act for {}, as {}.", tenant.name, role.as_str())),
        None => page.text("You are a member of no tenant yet: open the link of an invitation."),
    };
    let csrf = signed_in.csrf_token();
    let chosen = signed_in.tenant.as_ref().map(|(tenant, _)| tenant.id.as_str());
    for (tenant, _) in registry.tenants_of(&signed_in).await? {
        if Some(tenant.id.as_str()) != chosen {
            let fields = [("csrf", csrf.as_str()), ("tenant", tenant.name.as_str())];
            page = page.form("/sign-in/tenant", &fields, &format!("Act for {}", tenant.name));
        }
    }
    if !signed_in.session.is_confined {
        for (name, title) in registry.providers() {
            let to = format!("/sign-in/provider/{name}/connect");
            page = page.form(&to, &[("csrf", &csrf)], &format!("Sign in with {title} from now on"));
        }
    }
    Ok(page.form("/sign-in/out", &[("csrf", &csrf)], "Sign out").into_response())
}

/// A browser that sends no cookie here has not kept it: it refuses cookies, or takes `Secure` at its word on this machine.
fn not_kept(registry: &Registry) -> Result<Page, RegistryError> {
    let url = registry.public_url()?;
    let page = Page::new("You are not signed in").with_status(StatusCode::UNAUTHORIZED);
    let page = page.text("Your browser has sent no session. If you have just signed in, it did not keep the cookie: let it keep cookies of this address.");
    let page = if url.is_plain() {
        page.text(&format!(
            "The address {url} has no TLS. Most browsers keep a session of their own machine all the same, and some do not: use another, or give the server a certificate."
        ))
    } else {
        page
    };
    Ok(page.link("/sign-in", "Sign in"))
}

pub(super) async fn choose_tenant(
    State(registry): State<Registry>,
    headers: HeaderMap,
    FormOf(chosen): FormOf<ChosenTenant>,
) -> Result<Redirect, Failed> {
    from_our_page(&registry, &headers)?;
    let signed_in = session_in(&registry, &headers).await?.ok_or(RegistryError::SessionOver)?;
    with_token(&signed_in, &chosen.csrf)?;
    registry.choose_tenant(&signed_in, &chosen.tenant).await?;
    Ok(Redirect::to(&done_path(None)))
}

pub(super) async fn sign_out(
    State(registry): State<Registry>,
    headers: HeaderMap,
    FormOf(form): FormOf<SigningOut>,
) -> Result<Response, Failed> {
    from_our_page(&registry, &headers)?;
    if let Some(signed_in) = session_in(&registry, &headers).await? {
        with_token(&signed_in, &form.csrf)?;
        registry.end_session(&signed_in, &signed_in.session.id).await?;
    }
    Ok(with_cookie(Page::new("Signed out").link("/sign-in", "Sign in"), &gone_cookie(SESSION_COOKIE)))
}
