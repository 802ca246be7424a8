//! Errors on the wire: RFC 9457 problems. One match gives every error its status and stable code.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{self, RefOr};
use utoipa::{IntoResponses, ToSchema};

use crate::auth::AuthError;
use crate::error::{Finding, RegistryError};

const PROBLEM_JSON: &str = "application/problem+json";

/// An error, as RFC 9457 writes it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:souk:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// Stable name of the cause, for programs.
    code: String,
    /// What happened, in a sentence.
    detail: String,
    /// Each thing that is wrong, where there can be several. Empty otherwise.
    errors: Vec<ProblemItem>,
}

/// One of several things that are wrong with a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ProblemItem {
    /// Stable name of the cause, for programs.
    code: String,
    /// The field, file or tensor that it concerns.
    subject: String,
    /// A sentence with what was expected and what was given.
    message: String,
}

/// The errors that any route may answer with, for the OpenAPI document.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let common = [
            ("400", "The request breaks the API's rules"),
            ("401", "No valid key was presented"),
            ("403", "The key lacks the scope, or the adapter is another tenant's"),
            ("404", "There is nothing of that name that the caller may see"),
            ("409", "The state of things does not allow it"),
            ("413", "The body or a file is larger than allowed"),
            ("415", "The body has another format than the route takes"),
            ("422", "The content cannot be used; `errors` lists every problem"),
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

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:souk:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// A fault of ours. The log has the cause.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the registry cannot answer now")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("it was made from a status");
        let mut response = (status, Json(&self)).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match status {
            // The scheme that the caller has to use, as RFC 9110 asks for.
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"souk\""));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}

impl IntoResponse for RegistryError {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        let (status, code) = status_and_code(&error);
        if status.is_server_error() {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, code, "A request failed");
        }
        let mut problem = Self::new(status, code, error.to_string());
        if let RegistryError::Rejected(findings) | RegistryError::BadRequest { findings, .. } = error {
            problem.errors = findings.into_iter().map(ProblemItem::from).collect();
        }
        problem
    }
}

impl From<Finding> for ProblemItem {
    fn from(finding: Finding) -> Self {
        Self { code: finding.code, subject: finding.subject, message: finding.message }
    }
}

fn status_and_code(error: &RegistryError) -> (StatusCode, &'static str) {
    match error {
        RegistryError::Auth(AuthError::Missing) => (StatusCode::UNAUTHORIZED, "key_missing"),
        RegistryError::Auth(AuthError::Invalid) => (StatusCode::UNAUTHORIZED, "key_invalid"),
        RegistryError::Auth(AuthError::Revoked) => (StatusCode::UNAUTHORIZED, "key_revoked"),
        RegistryError::Auth(AuthError::Expired) => (StatusCode::UNAUTHORIZED, "key_expired"),
        RegistryError::Auth(AuthError::Unavailable(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        RegistryError::MissingScope(_) => (StatusCode::FORBIDDEN, "scope_missing"),
        RegistryError::ScopeNotHeld(_) => (StatusCode::FORBIDDEN, "scope_not_held"),
        RegistryError::NotOwner { .. } => (StatusCode::FORBIDDEN, "not_owner"),
        RegistryError::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
        RegistryError::AlreadyExists { .. } => (StatusCode::CONFLICT, "already_exists"),
        RegistryError::Retired { .. } => (StatusCode::CONFLICT, "retired"),
        RegistryError::UploadInProgress(_) => (StatusCode::CONFLICT, "upload_in_progress"),
        RegistryError::WrongState { .. } => (StatusCode::CONFLICT, "wrong_state"),
        RegistryError::TakenDown(_) => (StatusCode::GONE, "taken_down"),
        RegistryError::Rejected(_) => (StatusCode::UNPROCESSABLE_ENTITY, "adapter_rejected"),
        RegistryError::BadRequest { code, .. } => (StatusCode::BAD_REQUEST, code),
        RegistryError::UnsupportedMediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
        RegistryError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        RegistryError::TooSlow { .. } => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
        RegistryError::IdempotencyMismatch => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch"),
        RegistryError::IdempotencyInFlight => (StatusCode::CONFLICT, "idempotency_in_flight"),
        RegistryError::TooManyUploads { .. } => (StatusCode::SERVICE_UNAVAILABLE, "too_many_uploads"),
        RegistryError::LeaseLost => (StatusCode::SERVICE_UNAVAILABLE, "lease_lost"),
        RegistryError::StorageFull => (StatusCode::INSUFFICIENT_STORAGE, "storage_full"),
        RegistryError::Database(_) | RegistryError::Storage(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}
