//! The table of contents: every path of the gateway.

use axum::Router;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use souk_http::document::give_examples;
use souk_http::panic::answer_panics;
use souk_http::{Service, health, put_around, request_id};
use souk_protocol::RequestId;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::routes::{chat, completions, detokenize, metrics, model, models, ready, tokenize, tokenizer_info};

/// The gateway as its log and its figures name it.
static SERVICE: Service = Service {
    name: "gateway",
    requests: "souk_gateway_requests_total",
    request_seconds: "souk_gateway_request_seconds",
    answer_panic: |message| ApiError::internal(message).into_response(),
};

/// The gateway's routes with their document. Has no fallback, so that it can be merged with other routers; give
/// [`not_found`] to the whole.
pub fn router(gateway: Gateway) -> (Router, OpenApi) {
    let (tenants, _) = tenants_routes().split_for_parts();
    let mut tenants = tenants
        // A catch-all path, which the document cannot express.
        .route("/v1/models/{*id}", get(model::retrieve_model))
        .method_not_allowed_fallback(method_not_allowed);
    if let Some(cors) = gateway.cors().layer() {
        // A page can read only what this layer has passed, so panics must have become answers before.
        tenants = tenants.layer(answer_panics(SERVICE.answer_panic)).layer(cors);
    }
    let (operators, _) = operators_routes().split_for_parts();
    let operators = operators.method_not_allowed_fallback(method_not_allowed);
    (put_around(tenants.merge(operators), &SERVICE).with_state(gateway), openapi())
}

/// The document of the gateway's routes.
#[must_use]
pub fn openapi() -> OpenApi {
    let routes = tenants_routes().merge(operators_routes());
    let mut document = OpenApiRouter::with_openapi(Document::openapi()).merge(routes).into_openapi();
    give_examples(&mut document, include_str!("examples.json"));
    document
}

/// For tenants, with a key of scope `inference`. Pages of other origins may call them where the settings say so.
fn tenants_routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(chat::create_chat_completion))
        .routes(routes!(completions::create_completion))
        .routes(routes!(models::list_models))
        .routes(routes!(tokenize::tokenize))
        .routes(routes!(detokenize::detokenize))
        .routes(routes!(tokenizer_info::tokenizer_info))
}

/// For operators, without a key.
fn operators_routes() -> OpenApiRouter<Gateway> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(ready::ready))
        .routes(routes!(metrics::render_metrics))
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Souk gateway", description = "The OpenAI-compatible API: call base models and adapters."),
    // Registered by hand, since its path is a catch-all.
    paths(model::retrieve_model),
    modifiers(&ApiKey),
    tags(
        (name = "inference", description = "Call models"),
        (name = "tokens", description = "Text to token ids and back"),
        (name = "operations", description = "For operators and load balancers"),
    )
)]
struct Document;

struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, document: &mut OpenApi) {
        let key = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("souk_<id>_<secret>").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(key));
    }
}

/// Answers paths that nothing serves, in OpenAI's shape. It stands outside of the router's layers, so it gives the
/// answer its id itself.
pub async fn not_found(method: Method, uri: Uri) -> Response {
    let error = ApiError::UnknownUrl { method: method.to_string(), path: brief(&uri) };
    let mut response = error.into_response();
    request_id::show(&mut response, &RequestId::new());
    response
}

async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError::MethodNotAllowed { method: method.to_string(), path: brief(&uri) }
}

fn brief(uri: &Uri) -> String {
    uri.path().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use souk_http::document::lacks;

    #[test]
    fn every_operation_says_what_it_is_for_and_shows_a_request_and_an_answer() {
        assert_eq!(lacks(&mut super::openapi()), Vec::<String>::new());
    }
}
