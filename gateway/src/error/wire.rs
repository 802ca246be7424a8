//! Errors on the wire: status, code, envelope and headers.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use souk_limits::Violation;
use souk_protocol::JobFailure;
use utoipa::ToSchema;

use super::{ApiError, room_after, seconds, told_of};
use crate::metrics;

/// Header of what an `Idempotency-Key` was used for before: under which id that request ran.
pub(crate) const FIRST_REQUEST: HeaderName = HeaderName::from_static("x-souk-first-request");

/// OpenAI's error envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong, and where.
    pub error: ErrorDetail,
}

/// What went wrong. The first four keys are always present.
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
    /// The limits that have no room for the request, broadest level first; absent unless limits refused it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub violated_policies: Vec<ViolatedPolicy>,
}

/// A limit that has no room for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ViolatedPolicy {
    /// Whose it is: `tenant`, `team`, `member` or `key`.
    pub level: &'static str,
    /// What it limits, for example `tokens_per_month`.
    pub policy: &'static str,
    /// Most in its period.
    pub limit: u64,
    /// What is used of it.
    pub used: u64,
    /// What requests under way hold of it; 0 of limits per minute, which do not tell the two apart.
    pub held: u64,
    /// What the request may use.
    pub asked: u64,
    /// Seconds after which it is worth trying again; null: never, since more is asked for than the whole limit.
    #[schema(required)]
    pub retry_after_s: Option<u64>,
}

impl From<&Violation> for ViolatedPolicy {
    fn from(violation: &Violation) -> Self {
        Self {
            level: violation.subject.level(),
            policy: violation.policy.as_str(),
            limit: violation.limit,
            used: violation.used,
            held: violation.held,
            asked: violation.asked,
            retry_after_s: violation.retry_after.map(seconds),
        }
    }
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
    /// The same, and that is longer than a client waits.
    NotBefore(Duration),
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
                violated_policies: match self {
                    Self::LimitSpent(violations) => violations.iter().map(Into::into).collect(),
                    _ => Vec::new(),
                },
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
            // Once the model has begun another try would be charged, too.
            Self::HookFailed { .. } => failed(StatusCode::BAD_GATEWAY, "hook_failed", Retry::Never),
            Self::HookRefused { status, .. } => {
                let chosen = StatusCode::from_u16(*status).ok().filter(StatusCode::is_client_error);
                never(chosen.unwrap_or(StatusCode::BAD_REQUEST), Some("hook_refused"))
            }
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
            Self::LimitSpent(violations) => limit_facts(violations),
            Self::LimitsUnknown { retry_after } => busy("limits_unknown", *retry_after),
            Self::RepeatRuns(_) => Facts {
                retry: Retry::After(Duration::from_secs(1)),
                ..never(StatusCode::CONFLICT, Some("idempotency_in_flight"))
            },
            Self::RepeatNotKept(_) => never(StatusCode::CONFLICT, Some("idempotency_answer_not_kept")),
            Self::RepeatDiffers => never(StatusCode::UNPROCESSABLE_ENTITY, Some("idempotency_mismatch")),
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

/// A longer wait is not for a client that tries again by itself: it is told when, and that it need not try before.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Which of OpenAI's classes a spent limit is: a rate, a budget, or one that the request cannot ever fit into.
fn limit_facts(violations: &[Violation]) -> Facts {
    let told = told_of(violations);
    let retry = match room_after(violations) {
        // Nothing could be shortened so that it fits into nothing.
        None if told.is_some_and(|violation| violation.limit > 0) => {
            let (status, code) = (StatusCode::BAD_REQUEST, Some("request_exceeds_limit"));
            return Facts { status, kind: "invalid_request_error", code, retry: Retry::Never };
        }
        None => Retry::Never,
        Some(after) if after > LONGEST_RETRY => Retry::NotBefore(after),
        Some(after) => Retry::After(after),
    };
    let (kind, code) = if told.is_some_and(|violation| violation.policy.is_budget()) {
        ("insufficient_quota", "insufficient_quota")
    } else {
        ("rate_limit_error", "rate_limit_exceeded")
    };
    Facts { status: StatusCode::TOO_MANY_REQUESTS, kind, code: Some(code), retry }
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
            Retry::After(after) | Retry::NotBefore(after) => {
                // Whole seconds, rounded up: coming back early only meets the same refusal.
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(after).max(1)));
                if matches!(facts.retry, Retry::NotBefore(_)) {
                    headers.insert("x-should-retry", HeaderValue::from_static("false"));
                }
            }
        }
        if let Self::RepeatRuns(first) | Self::RepeatNotKept(first) = &self
            && let Ok(first) = HeaderValue::try_from(first.as_str())
        {
            headers.insert(FIRST_REQUEST, first);
        }
        if facts.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use souk_protocol::{Policy, Subject, TenantId};
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

    fn violation(policy: Policy, retry_after: Option<Duration>) -> Violation {
        let subject = Subject::Tenant(TenantId::from_stored("ten_1"));
        Violation { subject, policy, limit: 100, used: 90, held: 8, asked: 3, retry_after }
    }

    #[test]
    fn a_spent_rate_a_spent_budget_and_what_never_fits_are_told_apart() {
        let rate = violation(Policy::RequestsPerMinute, Some(Duration::from_millis(600)));
        let budget = violation(Policy::TokensPerMonth, Some(Duration::from_secs(86_400)));
        let never = violation(Policy::TokensPerDay, None);
        for (violations, status, kind, code, after, is_retried) in [
            (vec![rate.clone()], 429, "rate_limit_error", "rate_limit_exceeded", Some("1"), true),
            (vec![rate, budget.clone()], 429, "insufficient_quota", "insufficient_quota", Some("86400"), false),
            (vec![budget, never], 400, "invalid_request_error", "request_exceeds_limit", None, false),
        ] {
            let error = ApiError::LimitSpent(violations);
            let json = serde_json::to_value(error.body()).unwrap();
            assert_eq!((json["error"]["type"].as_str(), json["error"]["code"].as_str()), (Some(kind), Some(code)));
            let first = &json["error"]["violated_policies"][0];
            assert_eq!((&first["level"], &first["limit"], &first["used"]), (&"tenant".into(), &100.into(), &90.into()));
            assert_eq!((&first["held"], &first["asked"]), (&8.into(), &3.into()));
            let answer = error.into_response();
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(answer.headers().get("retry-after").map(|value| value.to_str().unwrap()), after);
            assert_eq!(!answer.headers().contains_key("x-should-retry"), is_retried, "{code}");
        }
    }

    #[test]
    fn a_limit_of_zero_lets_nobody_in_and_asks_for_nothing_shorter() {
        for (policy, code) in
            [(Policy::RequestsPerMinute, "rate_limit_exceeded"), (Policy::TokensPerDay, "insufficient_quota")]
        {
            let zero = Violation { limit: 0, used: 0, held: 0, ..violation(policy, None) };
            let rate = violation(Policy::OutputTokensPerMinute, Some(Duration::from_secs(1)));
            let error = ApiError::LimitSpent(vec![rate, zero]);
            let message = error.to_string();
            assert!(message.contains(&format!("{policy} of your tenant is 0: no request is let in")), "{message}");
            assert_eq!(error.body().error.code.as_deref(), Some(code));
            let answer = error.into_response();
            assert_eq!(
                (answer.status().as_u16(), answer.headers()["x-should-retry"].to_str().unwrap()),
                (429, "false")
            );
            assert!(!answer.headers().contains_key("retry-after"));
        }
    }

    #[test]
    fn what_is_said_of_several_limits_is_the_wait_of_all_and_the_budget_before_a_rate() {
        let rate = violation(Policy::RequestsPerMinute, Some(Duration::from_secs(1)));
        let budget = violation(Policy::TokensPerDay, Some(Duration::from_secs(32_400)));
        let message = ApiError::LimitSpent(vec![rate, budget]).to_string();
        assert!(message.contains("tokens_per_day") && message.ends_with("Try again in 32400 s."), "{message}");
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
