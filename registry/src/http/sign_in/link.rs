//! `/sign-in/link`: a link that signs in once.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;

use super::form::FormOf;
use super::page::{Failed, Page};
use super::visit::{arrival, from_our_page, landed, session_in};
use crate::Registry;

/// The form of the page below.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    secret: String,
}

pub(super) async fn show(
    State(registry): State<Registry>,
    Path(secret): Path<String>,
    headers: HeaderMap,
) -> Result<Page, Failed> {
    registry.public_url()?;
    let person = registry.person_of_link(&registry.link_of(&secret).await?).await?;
    let mut page = Page::new("Sign in").text(&format!("This link signs you in as {}, once.", person.called()));
    if let Some(signed_in) = session_in(&registry, &headers).await? {
        page = page.text(&format!("You are signed in as {}; that ends.", signed_in.person.called()));
    }
    Ok(page.form("/sign-in/link", &[("secret", &secret)], "Sign in"))
}

pub(super) async fn sign_in(
    State(registry): State<Registry>,
    headers: HeaderMap,
    FormOf(link): FormOf<Link>,
) -> Result<Response, Failed> {
    from_our_page(&registry, &headers)?;
    let arrival = arrival(&registry, &headers).await?;
    let cookie = registry.sign_in_by_link(&link.secret, arrival).await?;
    Ok(landed(&registry, &cookie, None))
}
