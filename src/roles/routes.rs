//! The routes of a process: those of its services, their documentation, and what operators look at.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use souk_gateway::Gateway;
use souk_http::draining::{Draining, refuse_writes};
use souk_http::health::{health, readiness};
use souk_http::problem::Problem;
use souk_http::public_port::{ByPublicPort, mark};
use souk_http::refused_body::read_away;
use souk_http::{Exporter, request_id};
use souk_protocol::RequestId;
use souk_registry::Registry;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

use super::node_seen::NodeSeen;

/// The same routes for a port that everybody may reach, without what is for operators.
pub(super) fn public(router: Router) -> Router {
    router.layer(from_fn(mark))
}

/// Routes that services of the installation call, which are not there at the port for everybody.
pub(super) fn for_services(router: Router) -> Router {
    router.layer(from_fn(hide_from_everybody))
}

async fn hide_from_everybody(request: Request, next: Next) -> Response {
    if is_public(&request) {
        return souk_gateway::not_found(request.method().clone(), request.uri().clone()).await;
    }
    next.run(request).await
}

/// Answers `/metrics` of a gateway, at the port for everybody, as if there were nothing.
async fn hide_figures(request: Request, next: Next) -> Response {
    if request.uri().path() == "/metrics" && is_public(&request) {
        return souk_gateway::not_found(request.method().clone(), request.uri().clone()).await;
    }
    next.run(request).await
}

fn is_public(request: &Request) -> bool {
    request.extensions().get::<ByPublicPort>().is_some()
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

/// All roles: merges the services' routers, each with its own crust around it, with the pages that belong to neither. Once
/// `draining` has begun, the registry changes nothing any more; the gateway refuses by itself.
pub(super) fn of_all(gateway: Gateway, registry: Registry, draining: Draining) -> Router {
    let (gateway_routes, gateway_document) = souk_gateway::router(gateway);
    let (registry_routes, registry_document) = souk_registry::router(registry);
    with_pages([(GATEWAY, gateway_document), (REGISTRY, registry_document)])
        .fallback(souk_gateway::not_found)
        .layer(from_fn(read_away))
        .merge(gateway_routes)
        .merge(registry_routes.layer(from_fn_with_state(draining, refuse_writes)))
        .layer(from_fn(hide_figures))
}

/// A gateway alone.
pub(super) fn of_gateway(gateway: Gateway) -> Router {
    let (routes, document) = souk_gateway::router(gateway);
    let pages = with_pages([(GATEWAY, document)]).fallback(souk_gateway::not_found);
    pages.layer(from_fn(read_away)).merge(routes).layer(from_fn(hide_figures))
}

/// A registry alone, with what a gateway has for operators.
pub(super) fn of_registry(registry: Registry, metrics: Exporter, draining: Draining) -> Router {
    let (routes, document) = souk_registry::router(registry.clone());
    let ready = get(move |State((registry, draining)): State<(Registry, Draining)>| ready(registry, draining));
    with_pages([(REGISTRY, document)])
        .route("/health", get(health))
        .route("/ready", ready.with_state((registry, draining.clone())))
        .route("/metrics", get(move |request| figures(metrics.clone(), request)))
        .fallback(no_such_route)
        .layer(from_fn(read_away))
        .merge(routes.layer(from_fn_with_state(draining, refuse_writes)))
}

/// A document: what it is called, and where it is.
type Named = (&'static str, &'static str);
const GATEWAY: Named = ("gateway", "/openapi/gateway.json");
const REGISTRY: Named = ("registry", "/openapi/registry.json");

/// The documentation of the APIs that there are.
fn with_pages<const N: usize>(documents: [(Named, OpenApi); N]) -> Router {
    // The page and its scripts are inside the executable, so it works without a network. A key that is typed into it is
    // forgotten with the page.
    let page = SwaggerUi::new("/docs").config(Config::default().try_it_out_enabled(true).persist_authorization(false));
    let page = documents.into_iter().enumerate().fold(page, |page, (number, ((name, path), document))| {
        page.url(Url::with_primary(name, path, number == 0), document)
    });
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/docs/") }))
        .merge(Router::from(page).layer(from_fn(confine)))
}

/// A node alone: what operators look at.
pub(super) fn of_node(seen: NodeSeen, metrics: Exporter) -> Router {
    let ready = get(move || {
        let status = seen.status();
        async move { readiness(status == "ready", NodeReadiness { status }) }
    });
    Router::new()
        .route("/health", get(health))
        .route("/ready", ready)
        .route("/metrics", get(move |request| figures(metrics.clone(), request)))
        .fallback(no_such_route)
        .layer(from_fn(read_away))
}

/// Whether a node takes jobs.
#[derive(Serialize)]
struct NodeReadiness {
    /// `loading`, `waiting_for_queue`, `ready` or `shutting_down`.
    status: &'static str,
}

/// The figures of a registry alone, or a node.
async fn figures(metrics: Exporter, request: Request) -> Response {
    if is_public(&request) {
        return no_such_route(request.method().clone(), request.uri().clone()).await;
    }
    metrics.answer()
}

/// Whether a registry can do its work.
#[derive(Serialize)]
struct RegistryReadiness {
    /// `ready`, `database_unreachable` or `shutting_down`.
    status: &'static str,
}

async fn ready(registry: Registry, draining: Draining) -> (StatusCode, Json<RegistryReadiness>) {
    let status = if draining.has_begun() {
        "shutting_down"
    } else if registry.reaches_database().await {
        "ready"
    } else {
        "database_unreachable"
    };
    readiness(status == "ready", RegistryReadiness { status })
}

/// Answers paths that a registry alone, or a node, does not have. It stands outside of the service's layers, so it gives
/// the answer its id itself.
async fn no_such_route(method: Method, uri: Uri) -> Response {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!(
        "there is nothing at {method} {path}; a registry has its routes below /registry/v1, a gateway below /v1"
    );
    let mut response = Problem::new(StatusCode::NOT_FOUND, "not_found", detail).into_response();
    request_id::show(&mut response, &RequestId::new());
    response
}
