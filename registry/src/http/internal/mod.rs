//! What gateways and nodes that run apart ask: the routes below `/registry/v1/internal`, for services of this installation alone.
//! They take a service's token, and a certificate where the port asks for one (`server.tls.client_ca`), and are not there on
//! the port that everybody may reach. A node may fetch
//! files that it has a grant for, and nothing else. A gateway tells whom it asks for, and is believed; how many questions it asks at a time is bounded by itself, tenant by tenant.
//!
//! Requests and answers are those of [`souk_protocol::internal`]. Whatever an answer says is a 200, so that every other
//! status means that this registry could not tell.

mod ask;
mod file;
mod hooks;
mod token;
mod usage;
mod withdrawals;

use axum::Router;
use axum::extract::{DefaultBodyLimit, OriginalUri, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use souk_http::client_certificate;
use souk_http::public_port::ByPublicPort;
use souk_protocol::hooks::MAX_LINE_BYTES;
use souk_protocol::internal::{MAX_HOOK_LINES, MAX_WRITTEN_BYTES};

use souk_protocol::ServiceKind;

use super::middleware::{no_such_route, presented};
use crate::Registry;
use crate::error::RegistryError;
use crate::tokens::CallingService;

/// The routes, below the prefix of the API: method, path, and what it is for. A test holds the router and
/// [docs/operate.md](../../../../docs/operate.md) to it.
pub const INTERNAL: [(&str, &str, &str); 15] = [
    ("POST", "/internal/token", "a gateway's or a node's key in exchange for a token of 15 minutes"),
    ("POST", "/internal/authenticate", "who presents this key or token"),
    ("POST", "/internal/resolve", "what a reference means for a caller now"),
    ("POST", "/internal/models", "the adapters that a caller can name"),
    ("POST", "/internal/model", "one of them"),
    ("POST", "/internal/template", "the chat template of a version"),
    ("POST", "/internal/limits", "what a caller may use in a period, itself and with others"),
    ("POST", "/internal/usage", "requests that were served, each written once; the sums that they move"),
    ("POST", "/internal/usage/totals", "what was used by somebody in a day or a month"),
    ("POST", "/internal/usage/repeated", "the request that had an `Idempotency-Key`, if it was charged"),
    (
        "GET",
        "/internal/files/{digest}",
        "a file of the version that the grant in `x-souk-file-grant` is for, by its digest, whole or from a byte on; with `?direct`, where it can be read",
    ),
    ("GET", "/internal/hooks/{digest}/component", "the component of a hook by its digest, unless it was taken down"),
    ("GET", "/internal/hooks/{digest}/artifacts/{engine}", "what it was compiled to for an engine, sealed"),
    ("POST", "/internal/hooks/lines", "what hooks said and how they failed, for their owners"),
    ("GET", "/internal/withdrawals", "a stream of what is revoked and taken down, as lines of JSON"),
];

/// A line with what is beside its text, each character of which may be written as six.
const MAX_HOOK_LINE_BYTES: usize = 6 * MAX_LINE_BYTES + 1024;

/// The router.
pub(super) fn routes(registry: Registry) -> Router<Registry> {
    let guarded = Router::new()
        .route("/internal/authenticate", post(ask::authenticate))
        .route("/internal/resolve", post(ask::resolve))
        .route("/internal/models", post(ask::list_models))
        .route("/internal/model", post(ask::get_model))
        .route("/internal/template", post(ask::template))
        .route("/internal/limits", post(ask::limits))
        .route("/internal/usage", post(usage::write).layer(DefaultBodyLimit::max(MAX_WRITTEN_BYTES)))
        .route("/internal/usage/totals", post(usage::totals))
        .route("/internal/usage/repeated", post(usage::repeated))
        .route("/internal/hooks/{digest}/component", get(hooks::component))
        .route("/internal/hooks/{digest}/artifacts/{engine}", get(hooks::artifact))
        .route(
            "/internal/hooks/lines",
            post(hooks::write_lines).layer(DefaultBodyLimit::max(MAX_HOOK_LINES * MAX_HOOK_LINE_BYTES)),
        )
        .route("/internal/withdrawals", get(withdrawals::withdrawals))
        .route_layer(from_fn(of_gateways))
        // What nodes may ask too.
        .route("/internal/files/{digest}", get(file::file))
        .route_layer(from_fn_with_state(registry, authenticate_service));
    Router::new()
        .route("/internal/token", post(token::exchange))
        .merge(guarded)
        .route_layer(from_fn(client_certificate::require))
        .route_layer(from_fn(hide))
}

/// Answers at the port for everybody as if there were nothing.
async fn hide(uri: OriginalUri, request: Request, next: Next) -> Result<Response, RegistryError> {
    if request.extensions().get::<ByPublicPort>().is_some() {
        return Err(no_such_route(uri).await);
    }
    Ok(next.run(request).await)
}

/// Lets services in by their token.
async fn authenticate_service(
    State(registry): State<Registry>,
    mut request: Request,
    next: Next,
) -> Result<Response, RegistryError> {
    let service = registry.authenticate_service(presented(request.headers())?).await?;
    if service.kind.is_none() {
        return Err(RegistryError::NotForService("service that this registry does not know"));
    }
    request.extensions_mut().insert(service.clone());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::debug!(service.id = service.id, service.name = service.name, status, "A service was answered");
    Ok(response)
}

/// Lets gateways alone in, of the services that were let in.
async fn of_gateways(request: Request, next: Next) -> Result<Response, RegistryError> {
    match request.extensions().get::<CallingService>().and_then(|service| service.kind) {
        Some(ServiceKind::Gateway) => Ok(next.run(request).await),
        Some(ServiceKind::Node) => Err(RegistryError::NotForService("node")),
        None => Err(RegistryError::NotForService("service that this registry does not know")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_show_these_routes() {
        let rows = INTERNAL.iter().map(|(method, path, what)| format!("| `{method} {path}` | {what} |\n"));
        let table = format!("| call | what it is |\n| --- | --- |\n{}", rows.collect::<String>());
        let page = include_str!("../../../../docs/operate.md");
        assert!(page.contains(&table), "docs/operate.md is to have this table:\n{table}");
    }
}
