//! `/sign-in/invitation`: the link of an invitation.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::form::FormOf;
use super::page::{Failed, Page};
use super::visit::{arrival, done_path, from_our_page, landed, query, session_in};
use crate::Registry;
use crate::people::Role;

/// The form of the page below.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Invitation {
    secret: String,
}

pub(super) async fn show(
    State(registry): State<Registry>,
    headers: HeaderMap,
    Path(secret): Path<String>,
) -> Result<Page, Failed> {
    registry.public_url()?;
    let invitation = registry.invitation_of(&secret).await?;
    let tenant = registry.name_of_tenant(&invitation.tenant()).await?;
    let role = Role::from_column(&invitation.role).as_str();
    let mut page =
        Page::new(format!("Join {tenant}")).text(&format!("You are asked to become a member of {tenant}, as {role}."));
    let fields = [("secret", secret.as_str())];
    if let Some(signed_in) = session_in(&registry, &headers).await? {
        let person = signed_in.person.name.or(signed_in.person.email).unwrap_or(signed_in.person.id);
        page = page.text(&format!("You are signed in as {person}."));
        return Ok(page.form("/sign-in/invitation", &fields, &format!("Join as {person}")));
    }
    for (name, title) in registry.providers() {
        let path = format!("/sign-in/provider/{name}?{}", query(&[("invitation", &secret)]));
        page = page.link(&path, &format!("Sign in with {title} and join"));
    }
    if registry.links_sign_in() {
        page = page.form("/sign-in/invitation", &fields, "Join");
    }
    Ok(page)
}

pub(super) async fn accept(
    State(registry): State<Registry>,
    headers: HeaderMap,
    FormOf(invitation): FormOf<Invitation>,
) -> Result<Response, Failed> {
    from_our_page(&registry, &headers)?;
    let arrival = arrival(&registry, &headers).await?;
    Ok(match registry.sign_in_by_invitation(&invitation.secret, arrival).await? {
        Some(cookie) => landed(&registry, &cookie, None),
        None => Page::new("You are a member").leading_to(&done_path(None)).into_response(),
    })
}
