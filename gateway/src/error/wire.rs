//! Errors on the wire: status, code, envelope and headers.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use souk_protocol::JobFailure;
use utoipa::ToSchema;

use super::ApiError;
use crate::metrics;

/// OpenAI's error envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong, and where.
    pub error: ErrorDetail,
}

/// What went wrong. All four keys are always present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// One sentence or two for a person.
    pub message: String,
    /// Coarse class: `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The field at fault, as a path such as `messages[0].content`.
    #[schema(required)]
    pub param: Option<String>,
    /// Stable code for programs.
    #[schema(required)]
    pub code: Option<String>,
}

/// What distinguishes an error on the wire.
struct Facts {
    status: StatusCode,
    /// OpenAI's coarse class of the error.
    kind: &'static str,
    code: Option<&'static str>,
    retry: Retry,
}

enum Retry {
    /// The same request will fail again.
    Never,
    /// It may help; nothing is said of when.
    Perhaps,
    /// It is worth trying after this long.
    After(Duration),
}

impl ApiError {
    /// The HTTP status that this error is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.facts().status
    }

    /// The envelope.
    #[must_use]
    pub fn body(&self) -> ErrorBody {
        let facts = self.facts();
        ErrorBody {
            error: ErrorDetail {
                message: self.to_string(),
                kind: facts.kind.to_owned(),
                param: self.param().map(str::to_owned),
                code: facts.code.map(str::to_owned),
            },
        }
    }

    /// Writes the cause of a failure that is not the caller's to the log. Called where the error becomes an answer.
    pub(crate) fn log(&self) {
        match self {
            Self::Internal(cause) | Self::Unavailable(cause) => {
                tracing::error!(error = %cause, source = ?cause.source(), "request failed");
            }
            Self::Job(JobFailure::Internal(cause)) => tracing::error!(error = %cause, "job failed"),
            Self::Job(JobFailure::DeadLetter { attempts, reason }) => {
                tracing::error!(attempts, reason, "job was given up");
            }
            _ => {}
        }
    }

    /// The field at fault.
    fn param(&self) -> Option<&str> {
        match self {
            Self::InvalidValue { param, .. } | Self::UnknownParameter(param) | Self::Unsupported { param, .. } => {
                Some(param)
            }
            Self::Constraint { param, .. } => Some(param),
            Self::MalformedJson { field, .. } => field.as_deref(),
            Self::VersionTemplate { .. } => Some("messages"),
            Self::MissingParameter(param) | Self::ContextLength { param, .. } => Some(param),
            Self::ModelNotFound(_)
            | Self::ModelNotAllowed(_)
            | Self::AccessNeeded(_)
            | Self::ModelNotReady { .. }
            | Self::ModelTakenDown(_)
            | Self::BaseNotServed(_)
            | Self::Job(JobFailure::TakenDown) => Some("model"),
            _ => None,
        }
    }

    fn facts(&self) -> Facts {
        const CALLER: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        let never = |status, code| Facts { status, kind: CALLER, code, retry: Retry::Never };
        let busy = |code, after| Facts {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: SERVER,
            code: Some(code),
            retry: Retry::After(after),
        };
        let share_taken = |after| Facts {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: "rate_limit_error",
            code: Some("rate_limit_exceeded"),
            retry: Retry::After(after),
        };
        let failed = |status, code, retry| Facts { status, kind: SERVER, code: Some(code), retry };
        match self {
            Self::InvalidValue { .. } => never(StatusCode::BAD_REQUEST, Some("invalid_value")),
            Self::MissingParameter(_) => never(StatusCode::BAD_REQUEST, Some("missing_required_parameter")),
            Self::UnknownParameter(_) => never(StatusCode::BAD_REQUEST, Some("unknown_parameter")),
            Self::Unsupported { .. } => never(StatusCode::BAD_REQUEST, Some("unsupported_parameter")),
            Self::ContextLength { .. } => never(StatusCode::BAD_REQUEST, Some("context_length_exceeded")),
            Self::VersionTemplate { .. } => never(StatusCode::BAD_REQUEST, Some("chat_template_failed")),
            Self::MalformedJson { .. } | Self::BodyCut => never(StatusCode::BAD_REQUEST, None),
            Self::MediaType(_) => never(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("unsupported_content_type")),
            Self::BodyTooLarge { .. } => never(StatusCode::PAYLOAD_TOO_LARGE, Some("request_too_large")),
            Self::BodyTimeout(_) | Self::BodyTooSlow => {
                Facts { retry: Retry::Perhaps, ..never(StatusCode::REQUEST_TIMEOUT, None) }
            }
            Self::NoKey => never(StatusCode::UNAUTHORIZED, None),
            Self::InvalidKey => never(StatusCode::UNAUTHORIZED, Some("invalid_api_key")),
            Self::MissingScope(_) => never(StatusCode::FORBIDDEN, Some("missing_scope")),
            Self::ModelNotFound(_) => never(StatusCode::NOT_FOUND, Some("model_not_found")),
            Self::AccessNeeded(_) => never(StatusCode::FORBIDDEN, Some("access_needed")),
            Self::ModelNotAllowed(_) => never(StatusCode::FORBIDDEN, Some("model_not_allowed")),
            Self::ModelNotReady { .. } => {
                Facts { retry: Retry::Perhaps, ..never(StatusCode::CONFLICT, Some("model_not_ready")) }
            }
            Self::ModelTakenDown(_) => never(StatusCode::GONE, Some("model_taken_down")),
            Self::BaseNotServed(_) => never(StatusCode::BAD_REQUEST, Some("base_model_not_served")),
            Self::RateLimited { retry_after, .. } | Self::ShareTaken { retry_after, .. } => share_taken(*retry_after),
            Self::Overloaded { retry_after, .. } => busy("overloaded", *retry_after),
            Self::NoNode(_) => busy("no_node", Duration::from_secs(2)),
            Self::Draining => busy("shutting_down", Duration::from_secs(1)),
            Self::Unavailable(_) => busy("unavailable", Duration::from_secs(1)),
            Self::Job(failure) | Self::Constraint { failure, .. } => match failure {
                JobFailure::Adapter(_) => failed(StatusCode::BAD_GATEWAY, "adapter_not_loaded", Retry::Perhaps),
                JobFailure::AdapterBusy(_) => busy("overloaded", Duration::from_secs(5)),
                JobFailure::NotFinite { .. } => never(StatusCode::UNPROCESSABLE_ENTITY, Some("output_not_finite")),
                JobFailure::TooLarge { .. } => never(StatusCode::BAD_REQUEST, Some("request_too_large_for_node")),
                JobFailure::Constraint(_) => never(StatusCode::BAD_REQUEST, Some("invalid_constraint")),
                JobFailure::ConstraintLimit { .. } => never(StatusCode::BAD_REQUEST, Some("constraint_limit_exceeded")),
                JobFailure::Busy { is_share: false, .. } => busy("overloaded", Duration::from_secs(1)),
                JobFailure::Busy { is_share: true, .. } => share_taken(Duration::from_secs(1)),
                JobFailure::KeyRevoked => never(StatusCode::UNAUTHORIZED, Some("key_revoked")),
                JobFailure::TakenDown => never(StatusCode::GONE, Some("model_taken_down")),
                JobFailure::DeadlineExceeded => failed(StatusCode::GATEWAY_TIMEOUT, "timeout", Retry::Never),
                JobFailure::ShuttingDown => busy("shutting_down", Duration::from_secs(1)),
                JobFailure::DeadLetter { .. } => failed(StatusCode::INTERNAL_SERVER_ERROR, "given_up", Retry::Never),
                JobFailure::Internal(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", Retry::Perhaps),
            },
            Self::UnreadableUrl(_) => never(StatusCode::BAD_REQUEST, Some("invalid_url")),
            Self::UnknownUrl { .. } => never(StatusCode::NOT_FOUND, Some("unknown_url")),
            Self::MethodNotAllowed { .. } => never(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_supported")),
            Self::Internal(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", Retry::Perhaps),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let facts = self.facts();
        metrics::refused(facts.code.unwrap_or("none"));
        let mut response = (facts.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match facts.retry {
            Retry::Never => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            Retry::Perhaps => {}
            Retry::After(after) => {
                // Whole seconds, rounded up: coming back early only meets the same refusal.
                let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
            }
        }
        if facts.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use souk_queue::{FullScope, QueueError, QueueFull};

    use super::*;
    use crate::error::PromptLength;

    #[test]
    fn the_envelope_has_all_four_keys() {
        let json = serde_json::to_value(ApiError::NoKey.body()).unwrap();
        assert!(json["error"]["param"].is_null() && json["error"]["code"].is_null());
        let keys: Vec<&String> = json["error"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["message", "type", "param", "code"]);
    }

    #[test]
    fn internals_stay_inside() {
        for error in [
            ApiError::internal("secret path /etc"),
            ApiError::Unavailable("secret host".into()),
            ApiError::Job(JobFailure::Internal("secret thread".to_owned())),
            ApiError::Job(JobFailure::DeadLetter { attempts: 3, reason: "secret node".to_owned() }),
        ] {
            assert!(!error.to_string().contains("secret"), "{error}");
            assert!(error.status().is_server_error());
        }
    }

    #[test]
    fn ones_own_cap_is_429_and_the_pools_is_503() {
        let full = |scope| {
            let full = QueueFull { scope, limit: 4, queued: 4, retry_after: Duration::from_millis(1500) };
            ApiError::from(QueueError::Full(full)).into_response()
        };
        let own = full(FullScope::TenantQueued);
        assert_eq!(own.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(own.headers()[header::RETRY_AFTER], "2");
        assert!(!own.headers().contains_key("x-should-retry"));
        assert_eq!(full(FullScope::PoolQueued).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_job_for_which_there_was_no_place_may_come_again() {
        for (is_share, status) in [(true, StatusCode::TOO_MANY_REQUESTS), (false, StatusCode::SERVICE_UNAVAILABLE)] {
            let failure = JobFailure::Busy { what: "all are taken".to_owned(), is_share };
            let answer = ApiError::of_job(failure, Some("guided_regex"), None).into_response();
            assert_eq!((answer.status(), answer.headers()[header::RETRY_AFTER].to_str().unwrap()), (status, "1"));
        }
    }

    #[test]
    fn a_context_error_has_both_numbers() {
        let error = ApiError::ContextLength {
            param: "messages",
            limit: 100,
            prompt: PromptLength::Tokens(120),
            completion: None,
        };
        let message = error.to_string();
        assert!(message.contains("100 tokens") && message.contains("120 tokens"), "{message}");
    }
}
