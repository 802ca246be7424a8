//! Errors of native routes on the wire: RFC 9457 problems with a stable code. Which error has which status and code is the
//! service's own table.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error, as RFC 9457 writes it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
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
pub struct ProblemItem {
    /// Stable name of the cause, for programs.
    pub code: String,
    /// The field, file or tensor that it concerns.
    pub subject: String,
    /// A sentence with what was expected and what was given.
    pub message: String,
}

impl Problem {
    /// A problem without items.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:souk:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// The same with each thing that is wrong.
    #[must_use]
    pub fn with_items(self, items: impl IntoIterator<Item = ProblemItem>) -> Self {
        Self { errors: items.into_iter().collect(), ..self }
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
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}
