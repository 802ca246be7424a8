//! `/sign-in`: with whom one can sign in.

use axum::extract::State;
use axum::http::HeaderMap;

use super::form::GoingOn;
use super::page::{Failed, Page};
use super::visit::{done_path, query, session_in};
use crate::Registry;

pub(super) async fn show(
    State(registry): State<Registry>,
    GoingOn(return_to): GoingOn,
    headers: HeaderMap,
) -> Result<Page, Failed> {
    registry.public_url()?;
    let mut page = Page::new("Sign in");
    if session_in(&registry, &headers).await?.is_some() {
        page = page.text("You are signed in.").link(&done_path(return_to.as_ref()), "Go on as you are");
    }
    for (name, title) in registry.providers() {
        let query = return_to.as_ref().map(|path| format!("?{}", query(&[("return_to", path.as_str())])));
        let path = format!("/sign-in/provider/{name}{}", query.unwrap_or_default());
        page = page.link(&path, &format!("Sign in with {title}"));
    }
    if registry.links_sign_in() {
        page = page.text(
            "Or open a link that signs you in once: an owner of your tenant can make one, and so can the operator.",
        );
    }
    Ok(page)
}
