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

/// Seconds after which what is short now may be there.
const SOON_S: u64 = 5;

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
    /// The limits that are used up, by name; there where the cause is that one is.
    #[serde(rename = "violated-policies", skip_serializing_if = "Vec::is_empty")]
    violated_policies: Vec<&'static str>,
    /// The broadest level that has no more: `tenant`, `team`, `member` or `key`; there with the former.
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    /// Seconds after which it is worth trying again, where that is known.
    #[serde(skip)]
    retry_after_s: Option<u64>,
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
            violated_policies: Vec::new(),
            level: None,
            retry_after_s: None,
        }
    }

    /// The same with each thing that is wrong.
    #[must_use]
    pub fn with_items(self, items: impl IntoIterator<Item = ProblemItem>) -> Self {
        Self { errors: items.into_iter().collect(), ..self }
    }

    /// The same of a limit that is used up: which, at which level, and the seconds until there is more.
    #[must_use]
    pub fn of_limit(self, policy: &'static str, level: &'static str, retry_after_s: u64) -> Self {
        Self { violated_policies: vec![policy], level: Some(level), retry_after_s: Some(retry_after_s), ..self }
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
                let seconds = self.retry_after_s.unwrap_or(SOON_S);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            _ => {}
        }
        response
    }
}
