//! The pages of signing in, at `/sign-in`. They are no part of the API and of its document: people open them.
//!
//! A page that follows a link from elsewhere only shows a button: what looks at links in mails uses none up. Where a session
//! begins, the answer is a plain page that leads on by itself, since a browser that comes from another site would not send the
//! session's cookie with a redirect.

mod cli;
mod done;
mod form;
mod invitation;
mod link;
mod page;
mod provider;
mod start;
mod visit;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};

use super::Sender;
use crate::Registry;
use page::{Failed, Page};

/// Largest body of a form.
const FORM_BYTES: usize = 16 * 1024;

/// All of them.
pub(super) fn pages(registry: &Registry) -> Router<Registry> {
    Router::new()
        .route("/sign-in", get(start::show))
        .route("/sign-in/link/{secret}", get(link::show))
        .route("/sign-in/link", post(link::sign_in))
        .route("/sign-in/invitation/{secret}", get(invitation::show))
        .route("/sign-in/invitation", post(invitation::accept))
        .route("/sign-in/provider/{name}", get(provider::go))
        .route("/sign-in/provider/{name}/connect", post(provider::connect))
        .route("/sign-in/provider/{name}/callback", get(provider::come_back))
        .route("/sign-in/cli", get(cli::show).post(cli::allow))
        .route("/sign-in/done", get(done::show))
        .route("/sign-in/tenant", post(done::choose_tenant))
        .route("/sign-in/out", post(done::sign_out))
        .method_not_allowed_fallback(no_such_method)
        .route_layer(from_fn_with_state(registry.clone(), count))
        .layer(DefaultBodyLimit::max(FORM_BYTES))
}

async fn no_such_method() -> Page {
    Page::new("That did not work").with_status(StatusCode::METHOD_NOT_ALLOWED).link("/sign-in", "Sign in")
}

/// Bounds how often an address opens these pages, and how many are opened at once.
async fn count(
    State(registry): State<Registry>,
    sender: Sender,
    request: Request,
    next: Next,
) -> Result<Response, Failed> {
    registry.one_more_attempt(sender.0)?;
    let _under_way = registry.gates.begin_request(&None)?;
    Ok(next.run(request).await)
}
