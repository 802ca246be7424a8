//! One port for everything: the gateway's and the registry's routes, and their documentation.

use axum::Router;
use axum::middleware::from_fn;
use axum::response::Redirect;
use axum::routing::get;
use souk_gateway::Gateway;
use souk_http::refused_body::read_away;
use souk_registry::Registry;
use utoipa_swagger_ui::{Config, SwaggerUi, Url};

/// Merges the services' routers, each with its own crust around it, with the pages that belong to neither.
pub(super) fn router(gateway: Gateway, registry: Registry) -> Router {
    let (gateway_routes, gateway_document) = souk_gateway::router(gateway);
    let (registry_routes, registry_document) = souk_registry::router(registry);
    // The page and its scripts are inside the executable, so it works without a network.
    let documentation = SwaggerUi::new("/docs")
        .config(Config::default().try_it_out_enabled(true).persist_authorization(true))
        .url(Url::with_primary("gateway", "/openapi/gateway.json", true), gateway_document)
        .url(Url::new("registry", "/openapi/registry.json"), registry_document);
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/docs/") }))
        .merge(documentation)
        .fallback(souk_gateway::not_found)
        .layer(from_fn(read_away))
        .merge(gateway_routes)
        .merge(registry_routes)
}
