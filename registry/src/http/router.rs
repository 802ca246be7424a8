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
use super::document::complete;
use super::idempotency::answer_once;
use super::middleware::{JSON_BODY_BYTES, PREFIX, SERVICE, authenticate, no_such_method, no_such_route, note_changes};
use super::{
    Problem, access, adapters, audit, base_models, hooks, internal, invitations, keys, limits, members, organization,
    pipelines, policy, services, sessions, sign_in, tags, teams, tenants, tokens, uploads, usage, versions, webhooks,
};
use crate::Registry;
use crate::sessions::SESSION_COOKIE;

/// Routes that need no key: facts about the installation that belong to no tenant, what brings a secret of its own, and
/// reports of keys that are shown.
fn open_routes() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        .routes(routes!(base_models::list_base_models))
        .routes(routes!(tokens::list_token_keys))
        .routes(routes!(keys::report_leaked_keys))
        .routes(routes!(sessions::finish_login))
}

/// Routes that make something at each call; `Idempotency-Key` makes a repeated call safe.
fn creating_routes() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        .routes(routes!(tenants::create_tenant))
        .routes(routes!(members::create_sign_in_link))
        .routes(routes!(invitations::create_invitation))
        .routes(routes!(teams::create_team))
        .routes(routes!(keys::create_key))
        .routes(routes!(keys::rotate_key))
        .routes(routes!(services::create_service))
        .routes(routes!(adapters::create_adapter))
        .routes(routes!(webhooks::create_webhook))
        .routes(routes!(webhooks::replay_delivery))
        .routes(routes!(uploads::begin_upload))
        .routes(routes!(access::request_access))
        .routes(routes!(hooks::create_hook))
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
        // Teams
        .routes(routes!(teams::list_teams))
        .routes(routes!(teams::delete_team))
        .routes(routes!(teams::add_team_member, teams::remove_team_member))
        // Tenants, keys and tokens
        .routes(routes!(tokens::exchange_token))
        .routes(routes!(tokens::rotate_signing_key))
        .routes(routes!(tenants::list_tenants))
        .routes(routes!(tenants::export_tenant))
        .routes(routes!(tenants::request_erasure, tenants::cancel_erasure))
        .routes(routes!(keys::list_keys))
        .routes(routes!(keys::revoke_key))
        .routes(routes!(policy::get_policy, policy::set_policy))
        // Limits
        .routes(routes!(limits::list_limits))
        .routes(routes!(limits::get_limits, limits::set_limits))
        .routes(routes!(limits::set_answers))
        .routes(routes!(limits::set_tenant_limits))
        // Services that call others
        .routes(routes!(services::list_services))
        .routes(routes!(services::revoke_service))
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
        // Audit
        .routes(routes!(audit::list_audit))
        .routes(routes!(audit::export_audit))
        .routes(routes!(audit::list_audit_heads))
        // Usage
        .routes(routes!(usage::get_usage))
        .routes(routes!(usage::list_usage_requests))
        .routes(routes!(usage::export_usage))
        .routes(routes!(usage::get_usage_request))
        // Webhooks
        .routes(routes!(webhooks::list_webhooks))
        .routes(routes!(webhooks::get_webhook, webhooks::update_webhook, webhooks::delete_webhook))
        .routes(routes!(webhooks::rotate_webhook_secret))
        .routes(routes!(webhooks::list_deliveries))
        .routes(routes!(webhooks::get_delivery))
        // Uploads that go straight to the store
        .routes(routes!(uploads::list_uploads))
        .routes(routes!(uploads::get_upload, uploads::abort_upload))
        .routes(routes!(uploads::address_parts))
        // Tags
        .routes(routes!(tags::list_tags))
        .routes(routes!(tags::get_tag, tags::put_tag, tags::delete_tag))
        // Access
        .routes(routes!(access::get_gate, access::set_gate))
        .routes(routes!(access::list_grants))
        .routes(routes!(access::put_grant, access::delete_grant))
        .routes(routes!(access::list_access_requests))
        .routes(routes!(access::list_received_requests))
        .routes(routes!(access::get_access_request))
        .routes(routes!(access::approve_access))
        .routes(routes!(access::reject_access))
        .routes(routes!(access::revoke_access))
        .routes(routes!(access::withdraw_access_request))
        // Hooks
        .routes(routes!(hooks::list_hooks))
        .routes(routes!(hooks::get_hook, hooks::update_hook, hooks::delete_hook))
        .routes(routes!(hooks::list_hook_versions))
        .routes(routes!(hooks::get_hook_version, hooks::delete_hook_version))
        .routes(routes!(hooks::download_component))
        .routes(routes!(hooks::yank_hook_version))
        .routes(routes!(hooks::unyank_hook_version))
        .routes(routes!(hooks::take_down_hook_version))
        .routes(routes!(hooks::list_hook_grants))
        .routes(routes!(hooks::put_hook_grant, hooks::delete_hook_grant))
        .routes(routes!(hooks::list_hook_lines))
        .routes(routes!(hooks::get_hook_usage))
        // Pipelines
        .routes(routes!(hooks::get_hook_settings, hooks::set_hook_settings))
        .routes(routes!(hooks::get_hook_limits))
        .routes(routes!(hooks::set_hook_limits))
        .routes(routes!(pipelines::list_pipelines))
        .routes(routes!(pipelines::get_pipeline, pipelines::set_pipeline))
        .routes(routes!(pipelines::list_pipeline_history))
        .routes(routes!(pipelines::roll_back_pipeline))
        .routes(routes!(pipelines::get_version_pipeline, pipelines::set_version_pipeline))
        .routes(routes!(pipelines::list_version_pipeline_history))
        .routes(routes!(pipelines::roll_back_version_pipeline))
}

/// Uploads, which have a gate of their own: they bound their bodies by file, and keep their Idempotency-Keys themselves.
fn uploading_routes() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        .routes(routes!(versions::upload_version).layer(DefaultBodyLimit::disable()))
        .routes(routes!(uploads::complete_upload).layer(DefaultBodyLimit::disable()))
        .routes(routes!(hooks::publish_hook_version).layer(DefaultBodyLimit::disable()))
}

/// The router, complete with its middleware, and its OpenAPI document. It can be merged with others on one port: it
/// sets no fallback outside its own prefix.
pub fn router(registry: Registry) -> (axum::Router, OpenApi) {
    let (open, _) = open_routes().split_for_parts();
    let (creating, _) = creating_routes().split_for_parts();
    let (guarded, _) = guarded_routes().split_for_parts();
    let (uploading, _) = uploading_routes().split_for_parts();
    let changes = || from_fn_with_state(registry.clone(), note_changes);
    let guarded = creating
        // Innermost: what is kept for a moment is told of a change also where the client has gone.
        .route_layer(changes())
        .route_layer(from_fn_with_state(registry.clone(), answer_once))
        .merge(guarded.route_layer(changes()))
        .route_layer(from_fn_with_state(registry.clone(), admit))
        .merge(uploading.route_layer(changes()))
        .route("/{*rest}", any(no_such_route))
        .route_layer(from_fn_with_state(registry.clone(), authenticate));
    let open = open.route_layer(changes()).route_layer(from_fn_with_state(registry.clone(), admit));
    let internal = internal::routes(registry.clone());
    let routes = open
        .merge(guarded)
        .merge(internal)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(JSON_BODY_BYTES));
    let routes = axum::Router::new()
        .nest(PREFIX, routes)
        // A nested router has neither its prefix alone nor with a slash.
        .route(PREFIX, any(no_such_route))
        .route(&format!("{PREFIX}/"), any(no_such_route))
        .merge(organization::routes(registry.clone()))
        .merge(sign_in::pages(&registry).route_layer(changes()).with_state(registry.for_no_tenant()));
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
    complete(&mut document);
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
    security(("api_key" = []), ("session" = [])),
    tags(
        (name = "auth", description = "Tokens that a key is exchanged for"),
        (name = "tenants", description = "Who owns adapters and pays; for operators"),
        (name = "members", description = "Persons of a tenant, their roles, and invitations"),
        (name = "teams", description = "Members and keys that have limits together"),
        (name = "limits", description = "What tenants, teams, members and keys may use in a period"),
        (name = "sessions", description = "Persons who are signed in with a browser"),
        (name = "keys", description = "API keys of a tenant"),
        (name = "services", description = "Services of the installation that call others; for operators"),
        (name = "audit", description = "Who changed what, in chains that can be verified"),
        (name = "usage", description = "What a tenant used, request by request and summed up, and what it was charged"),
        (name = "webhooks", description = "Where events are sent, and what became of each delivery"),
        (name = "adapters", description = "Names, who may see them, and what they are"),
        (name = "versions", description = "Immutable releases of an adapter, and their files"),
        (name = "uploads", description = "Uploads whose weights go straight to the object store"),
        (name = "tags", description = "Mutable names for versions"),
        (name = "access", description = "Who may call whose adapters: grants, what a gated one asks, requests and decisions"),
        (name = "hooks", description = "Code of tenants before and after the model: names, versions, what they did and said"),
        (name = "pipelines", description = "Which hooks act on whose requests, in which order"),
        (name = "base models", description = "What adapters can be for"),
    )
)]
struct Document;
