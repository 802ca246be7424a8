//! Every route of the registry. A caller is authenticated unless its route is in [`open_routes`], or one of the pages
//! that people sign in with.

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::any;
use souk_http::put_around;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use super::admit::admit;
use super::idempotency::answer_once;
use super::middleware::{JSON_BODY_BYTES, PREFIX, SERVICE, authenticate, no_such_method, no_such_route};
use super::{
    Problem, adapters, base_models, invitations, keys, members, sessions, sign_in, tags, tenants, tokens, versions,
};
use crate::Registry;
use crate::sessions::SESSION_COOKIE;

/// Routes that need no key: facts about the installation that belong to no tenant, and what brings a secret of its own.
fn open_routes() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        .routes(routes!(base_models::list_base_models))
        .routes(routes!(tokens::list_token_keys))
        .routes(routes!(sessions::finish_login))
}

/// Routes that make something at each call; `Idempotency-Key` makes a repeated call safe.
fn creating_routes() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        .routes(routes!(tenants::create_tenant))
        .routes(routes!(members::create_sign_in_link))
        .routes(routes!(invitations::create_invitation))
        .routes(routes!(keys::create_key))
        .routes(routes!(adapters::create_adapter))
}

/// Everything else.
fn guarded_routes() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        // Persons who are signed in
        .routes(routes!(sessions::get_session, sessions::sign_out))
        .routes(routes!(sessions::choose_tenant))
        .routes(routes!(sessions::list_sessions))
        .routes(routes!(sessions::end_session))
        .routes(routes!(sessions::make_own_tenant))
        .routes(routes!(sessions::leave_tenant))
        .routes(routes!(sessions::who_am_i))
        // Members
        .routes(routes!(members::list_members))
        .routes(routes!(members::change_role, members::remove_member))
        .routes(routes!(members::erase_person))
        .routes(routes!(invitations::list_invitations))
        .routes(routes!(invitations::revoke_invitation))
        .routes(routes!(invitations::accept_invitation))
        // Tenants, keys and tokens
        .routes(routes!(tokens::exchange_token))
        .routes(routes!(tokens::rotate_signing_key))
        .routes(routes!(tenants::list_tenants))
        .routes(routes!(keys::list_keys))
        .routes(routes!(keys::revoke_key))
        // Adapters
        .routes(routes!(adapters::list_adapters))
        .routes(routes!(adapters::get_adapter, adapters::update_adapter, adapters::delete_adapter))
        // Versions
        .routes(routes!(versions::list_versions))
        .routes(routes!(versions::get_version, versions::delete_version))
        .routes(routes!(versions::download_file))
        .routes(routes!(versions::yank_version))
        .routes(routes!(versions::unyank_version))
        .routes(routes!(versions::take_down_version))
        // Tags
        .routes(routes!(tags::list_tags))
        .routes(routes!(tags::get_tag, tags::put_tag, tags::delete_tag))
}

/// Uploads, which have a gate of their own: one bounds its body by file, and keeps its Idempotency-Key itself.
fn uploading_routes() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(versions::upload_version).layer(DefaultBodyLimit::disable()))
}

/// The router, complete with its middleware, and its OpenAPI document. It can be merged with others on one port: it
/// sets no fallback outside its own prefix.
pub fn router(registry: Registry) -> (axum::Router, OpenApi) {
    let (open, _) = open_routes().split_for_parts();
    let (creating, _) = creating_routes().split_for_parts();
    let (guarded, _) = guarded_routes().split_for_parts();
    let (uploading, _) = uploading_routes().split_for_parts();
    let guarded = creating
        .route_layer(from_fn_with_state(registry.clone(), answer_once))
        .merge(guarded)
        .route_layer(from_fn_with_state(registry.clone(), admit))
        .merge(uploading)
        .route("/{*rest}", any(no_such_route))
        .route_layer(from_fn_with_state(registry.clone(), authenticate));
    let open = open.route_layer(from_fn_with_state(registry.clone(), admit));
    let routes =
        open.merge(guarded).method_not_allowed_fallback(no_such_method).layer(DefaultBodyLimit::max(JSON_BODY_BYTES));
    let routes = axum::Router::new()
        .nest(PREFIX, routes)
        // A nested router has neither its prefix alone nor with a slash.
        .route(PREFIX, any(no_such_route))
        .route(&format!("{PREFIX}/"), any(no_such_route))
        .merge(sign_in::pages(&registry));
    let router = put_around(routes, &SERVICE);
    (router.with_state(registry), openapi())
}

/// The OpenAPI document, without starting anything.
#[must_use]
pub fn openapi() -> OpenApi {
    let routes = open_routes().merge(creating_routes()).merge(guarded_routes()).merge(uploading_routes());
    let mut document = OpenApiRouter::with_openapi(Document::openapi()).nest(PREFIX, routes).into_openapi();
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let cookie = SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(SESSION_COOKIE)));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("api_key", bearer);
    components.add_security_scheme("session", cookie);
    document
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Souk registry",
        description = "Tenants, API keys, adapters and their versions. Errors are RFC 9457 problems with a stable \
                       `code`; every answer carries `x-request-id`."
    ),
    components(schemas(Problem)),
    security(("api_key" = []), ("session" = []))
)]
struct Document;
