//! One port for everything: the gateway's and the registry's routes, and their documentation.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{Redirect, Response};
use axum::routing::get;
use souk_gateway::Gateway;
use souk_http::draining::{Draining, refuse_writes};
use souk_http::public_port::mark;
use souk_http::refused_body::read_away;
use souk_registry::Registry;
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

/// The same routes for a port that everybody may reach, without what is for operators.
pub(super) fn public(router: Router) -> Router {
    router.layer(from_fn(mark)).layer(from_fn(hide_figures))
}

/// Answers `/metrics` as if there were nothing.
async fn hide_figures(request: Request, next: Next) -> Response {
    if request.uri().path() == "/metrics" {
        return souk_gateway::not_found(request.method().clone(), request.uri().clone()).await;
    }
    next.run(request).await
}

/// What the page of the documentation may load and reach: itself and the API beside it. Its scripts write styles into it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                           connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Gives the page its policy: a key is typed into it.
async fn confine(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Merges the services' routers, each with its own crust around it, with the pages that belong to neither. Once `draining`
/// has begun, the registry changes nothing any more; the gateway refuses by itself.
pub(super) fn router(gateway: Gateway, registry: Registry, draining: Draining) -> Router {
    let (gateway_routes, gateway_document) = souk_gateway::router(gateway);
    let (registry_routes, registry_document) = souk_registry::router(registry);
    // The page and its scripts are inside the executable, so it works without a network. A key that is typed into it is
    // forgotten with the page.
    let documentation = SwaggerUi::new("/docs")
        .config(Config::default().try_it_out_enabled(true).persist_authorization(false))
        .url(Url::with_primary("gateway", "/openapi/gateway.json", true), gateway_document)
        .url(Url::new("registry", "/openapi/registry.json"), registry_document);
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/docs/") }))
        .merge(Router::from(documentation).layer(from_fn(confine)))
        .fallback(souk_gateway::not_found)
        .layer(from_fn(read_away))
        .merge(gateway_routes)
        .merge(registry_routes.layer(from_fn_with_state(draining, refuse_writes)))
}
