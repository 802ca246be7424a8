//! Errors on the wire: RFC 9457 problems. One match gives every error its status and stable code.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use souk_http::problem::{PROBLEM_JSON, Problem, ProblemItem};
use souk_protocol::gate::Cause;
use utoipa::IntoResponses;
use utoipa::openapi::{self, RefOr};

use crate::auth::AuthError;
use crate::error::{Finding, RegistryError, is_busy, is_connection_lost};

/// The errors that any route may answer with, for the OpenAPI document.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let common = [
            ("400", "The request breaks the API's rules"),
            ("401", "No valid key was presented"),
            ("403", "The key lacks the scope, or the adapter is another tenant's"),
            ("404", "There is nothing of that name that the caller may see"),
            ("408", "The body stalled, or came too slowly"),
            ("409", "The state of things does not allow it"),
            ("413", "The body or a file is larger than allowed"),
            ("415", "The body has another format than the route takes"),
            ("422", "The content cannot be used; `errors` lists every problem"),
            ("429", "Others wait, and the tenant has its share; or a limit is used up"),
            ("5XX", "The registry cannot answer now"),
        ];
        let answer = |description: &str| {
            let schema = openapi::Ref::from_schema_name("Problem");
            let content = openapi::ContentBuilder::new().schema(Some(schema)).build();
            openapi::ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build()
        };
        common.map(|(status, description)| (status.to_owned(), RefOr::T(answer(description)))).into()
    }
}

impl IntoResponse for RegistryError {
    fn into_response(self) -> Response {
        problem(self).into_response()
    }
}

/// Status and code of an error. What is ours to mend is logged.
pub(super) fn logged(error: &RegistryError) -> (StatusCode, &'static str) {
    let (status, code) = status_and_code(error);
    // What a caller's flood brings about is counted and not logged: the log would be flooded too.
    let is_callers = matches!(error, RegistryError::NotLetIn { .. } | RegistryError::InsufficientStorage(_));
    if status.is_server_error() && !is_callers {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::error!(%error, cause, code, "A request failed");
    }
    (status, code)
}

fn problem(error: RegistryError) -> Problem {
    let (status, code) = logged(&error);
    let problem = Problem::new(status, code, error.to_string());
    match error {
        RegistryError::Rejected(findings)
        | RegistryError::HookRejected(findings)
        | RegistryError::BadRequest { findings, .. } => problem.with_items(findings.into_iter().map(item)),
        RegistryError::LimitReached { policy, level, retry_after_s, .. } => {
            problem.of_limit(policy.as_str(), level, retry_after_s)
        }
        _ => problem,
    }
}

fn item(finding: Finding) -> ProblemItem {
    ProblemItem { code: finding.code, subject: finding.subject, message: finding.message }
}

fn status_and_code(error: &RegistryError) -> (StatusCode, &'static str) {
    match error {
        RegistryError::Auth(AuthError::Missing) => (StatusCode::UNAUTHORIZED, "key_missing"),
        RegistryError::Auth(AuthError::Invalid) => (StatusCode::UNAUTHORIZED, "key_invalid"),
        RegistryError::Auth(AuthError::Revoked) => (StatusCode::UNAUTHORIZED, "key_revoked"),
        RegistryError::Auth(AuthError::Expired) => (StatusCode::UNAUTHORIZED, "key_expired"),
        RegistryError::Auth(AuthError::Unavailable(cause)) if is_busy(cause) => {
            (StatusCode::SERVICE_UNAVAILABLE, "busy")
        }
        RegistryError::Auth(AuthError::Unavailable(cause)) if is_connection_lost(cause) => {
            (StatusCode::SERVICE_UNAVAILABLE, "connection_lost")
        }
        RegistryError::Auth(AuthError::Unavailable(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        RegistryError::Auth(AuthError::RevocationsUnknown) => (StatusCode::SERVICE_UNAVAILABLE, "revocations_unknown"),
        RegistryError::TokenForToken => (StatusCode::FORBIDDEN, "token_for_token"),
        RegistryError::SessionInvalid => (StatusCode::UNAUTHORIZED, "session_invalid"),
        RegistryError::SessionOver => (StatusCode::UNAUTHORIZED, "session_over"),
        RegistryError::Forged => (StatusCode::FORBIDDEN, "csrf"),
        RegistryError::SessionNeeded => (StatusCode::FORBIDDEN, "session_needed"),
        RegistryError::NoTenant => (StatusCode::FORBIDDEN, "no_tenant"),
        RegistryError::SessionConfined => (StatusCode::FORBIDDEN, "session_confined"),
        RegistryError::TenantErased => (StatusCode::CONFLICT, "tenant_erased"),
        RegistryError::LastOwner => (StatusCode::CONFLICT, "last_owner"),
        RegistryError::AlreadyMember => (StatusCode::CONFLICT, "already_member"),
        RegistryError::LinkUnknown => (StatusCode::NOT_FOUND, "not_found"),
        RegistryError::LinkOver => (StatusCode::GONE, "link_over"),
        RegistryError::LinksOff => (StatusCode::CONFLICT, "links_off"),
        RegistryError::OtherAddress => (StatusCode::FORBIDDEN, "other_address"),
        RegistryError::NotInvited => (StatusCode::FORBIDDEN, "not_invited"),
        RegistryError::Provider(_) => (StatusCode::FORBIDDEN, "provider_failed"),
        RegistryError::SelfServiceOff => (StatusCode::FORBIDDEN, "self_service_off"),
        RegistryError::TooManyAttempts => (StatusCode::TOO_MANY_REQUESTS, "too_many_attempts"),
        RegistryError::NoPublicUrl => (StatusCode::CONFLICT, "no_public_url"),
        RegistryError::MissingScope(_) => (StatusCode::FORBIDDEN, "scope_missing"),
        RegistryError::OperatorsPortOnly => (StatusCode::FORBIDDEN, "operators_port_only"),
        RegistryError::NotForService(_) => (StatusCode::FORBIDDEN, "not_for_service"),
        RegistryError::GrantMissing => (StatusCode::FORBIDDEN, "file_grant_missing"),
        RegistryError::GrantForeign | RegistryError::GrantOfAnother { .. } => {
            (StatusCode::FORBIDDEN, "file_grant_invalid")
        }
        RegistryError::GrantExpired => (StatusCode::FORBIDDEN, "file_grant_expired"),
        RegistryError::ScopeNotHeld(_) => (StatusCode::FORBIDDEN, "scope_not_held"),
        RegistryError::ExpiryNotHeld { .. } => (StatusCode::FORBIDDEN, "expiry_not_held"),
        RegistryError::ModelNotHeld(_) => (StatusCode::FORBIDDEN, "model_not_held"),
        RegistryError::AccessNeeded(_) => (StatusCode::FORBIDDEN, "access_needed"),
        RegistryError::AlreadyGranted(_) => (StatusCode::CONFLICT, "already_granted"),
        RegistryError::WrongRequestState { .. } => (StatusCode::CONFLICT, "wrong_state"),
        RegistryError::PersonNeeded => (StatusCode::FORBIDDEN, "person_needed"),
        RegistryError::AgainstPolicy { .. } => (StatusCode::FORBIDDEN, "against_policy"),
        RegistryError::LimitReached { .. } => (StatusCode::TOO_MANY_REQUESTS, "limit_reached"),
        RegistryError::BeyondLevelAbove { .. } => (StatusCode::CONFLICT, "beyond_level_above"),
        RegistryError::OthersKey(_) => (StatusCode::FORBIDDEN, "others_key"),
        RegistryError::OwnKeyAgainstPolicy => (StatusCode::CONFLICT, "own_key_against_policy"),
        RegistryError::AlreadyRotated { .. } => (StatusCode::CONFLICT, "already_rotated"),
        RegistryError::KeyOver { .. } => (StatusCode::CONFLICT, "key_over"),
        RegistryError::OwnKeyMadeWithIt(_) => (StatusCode::CONFLICT, "own_key_made_with_it"),
        RegistryError::NotOwner { .. } => (StatusCode::FORBIDDEN, "not_owner"),
        RegistryError::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
        RegistryError::AlreadyExists { .. } => (StatusCode::CONFLICT, "already_exists"),
        RegistryError::Retired { .. } => (StatusCode::CONFLICT, "retired"),
        RegistryError::OperatorsTenant => (StatusCode::CONFLICT, "operators_tenant"),
        RegistryError::UploadInProgress(_) => (StatusCode::CONFLICT, "upload_in_progress"),
        RegistryError::NoDirectUploads => (StatusCode::CONFLICT, "direct_uploads_unavailable"),
        RegistryError::PartsMissing { .. } => (StatusCode::CONFLICT, "parts_missing"),
        RegistryError::PartsTaken(_) => (StatusCode::CONFLICT, "parts_taken"),
        RegistryError::WrongBytes { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_bytes"),
        RegistryError::WrongState { .. } => (StatusCode::CONFLICT, "wrong_state"),
        RegistryError::TakenDown(_) => (StatusCode::GONE, "taken_down"),
        RegistryError::ContentTakenDown { .. } => (StatusCode::CONFLICT, "content_taken_down"),
        RegistryError::Rejected(_) => (StatusCode::UNPROCESSABLE_ENTITY, "adapter_rejected"),
        RegistryError::HookRejected(_) => (StatusCode::UNPROCESSABLE_ENTITY, "hook_rejected"),
        RegistryError::HookNotJudged(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        RegistryError::HooksOff => (StatusCode::CONFLICT, "hooks_off"),
        RegistryError::BadRequest { code, .. } => (StatusCode::BAD_REQUEST, code),
        RegistryError::UnsupportedMediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
        RegistryError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        RegistryError::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
        RegistryError::IdempotencyMismatch => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch"),
        RegistryError::IdempotencyInFlight => (StatusCode::CONFLICT, "idempotency_in_flight"),
        RegistryError::NotLetIn { refusal, .. } if refusal.cause == Cause::Share => {
            (StatusCode::TOO_MANY_REQUESTS, "share_taken")
        }
        RegistryError::NotLetIn { .. } => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        RegistryError::TooMany { .. } => (StatusCode::CONFLICT, "too_many"),
        RegistryError::SlowBody => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
        RegistryError::InsufficientStorage(_) => (StatusCode::INSUFFICIENT_STORAGE, "insufficient_storage"),
        RegistryError::LeaseLost => (StatusCode::SERVICE_UNAVAILABLE, "lease_lost"),
        RegistryError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        RegistryError::ConnectionLost(_) => (StatusCode::SERVICE_UNAVAILABLE, "connection_lost"),
        RegistryError::StoreUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "store_unavailable"),
        RegistryError::ObjectCorrupted { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "object_corrupted"),
        RegistryError::ObjectMissing { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "object_missing"),
        RegistryError::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "storage_full"),
        RegistryError::Database(_) | RegistryError::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}
