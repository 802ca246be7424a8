//! The error policy: every refusal and failure of the API is an [`ApiError`], which has one HTTP status, one stable
//! code and a sentence for the caller, and answers in OpenAI's envelope.
//!
//! Causes that the caller cannot use (a store that is down, a broken invariant) are logged once where the error is made
//! into a response, and the caller sees a general sentence. `x-should-retry: false` marks what will fail again unchanged;
//! `retry-after` says when to come back.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use minijinja::ErrorKind;
use serde::Serialize;
use souk_protocol::{JobFailure, ResolveError, Scope};
use souk_queue::{FullScope, QueueError};
use utoipa::ToSchema;

use crate::catalog::AuthError;
use crate::metrics;
use crate::text::{TemplateError, TokenizerError};

/// Any error of the API.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A field has a value that it may not have.
    #[error("{message}")]
    InvalidValue {
        /// The field.
        param: String,
        /// What is allowed and what was given.
        message: String,
    },
    /// A field that must be there is not.
    #[error("Missing required parameter: '{0}'.")]
    MissingParameter(&'static str),
    /// A field that this API does not know.
    #[error("Unknown parameter: '{0}'.")]
    UnknownParameter(String),
    /// A field or value that the official API has and this one does not.
    #[error("{message}")]
    Unsupported {
        /// The field.
        param: String,
        /// What is not supported.
        message: String,
    },
    /// The prompt, or prompt and answer together, do not fit.
    #[error("{}", context_message(*.limit, prompt, *.completion))]
    ContextLength {
        /// `messages` or `prompt`.
        param: &'static str,
        /// Tokens of the model's context.
        limit: usize,
        /// Length of the prompt.
        prompt: PromptLength,
        /// `max_tokens` where the prompt alone would fit.
        completion: Option<u64>,
    },
    /// The body is not JSON.
    #[error("We could not parse the JSON body of your request: {0}")]
    MalformedJson(String),
    /// The body is not said to be JSON.
    #[error("Unsupported content type '{0}'; send application/json.")]
    MediaType(String),
    /// The body is longer than the limit.
    #[error("The request body is larger than the limit of {limit} bytes.")]
    BodyTooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body did not arrive in time, or not whole.
    #[error("The request body did not arrive within {} seconds.", .0.as_secs())]
    BodyTimeout(Duration),
    /// The connection broke while the body was read.
    #[error("The request body ended early.")]
    BodyCut,
    /// No key was given.
    #[error("You didn't provide an API key. Send it as a header: Authorization: Bearer YOUR_KEY")]
    NoKey,
    /// The key opens nothing.
    #[error("Incorrect API key provided. It may be mistyped, expired or revoked.")]
    InvalidKey,
    /// The key lacks a right.
    #[error("You have insufficient permissions for this operation. Missing scopes: {0}")]
    MissingScope(Scope),
    /// No such model for this caller.
    #[error("The model `{0}` does not exist or you do not have access to it.")]
    ModelNotFound(String),
    /// The adapter cannot be served yet.
    #[error("The model `{reference}` is not ready: its state is {state}.")]
    ModelNotReady {
        /// As asked for.
        reference: String,
        /// Its state.
        state: String,
    },
    /// The adapter was taken down.
    #[error("The model `{0}` was taken down.")]
    ModelTakenDown(String),
    /// The adapter's base model is not served here.
    #[error("The model `{0}` needs a base model that is not served here.")]
    BaseNotServed(String),
    /// The caller's own cap is reached.
    #[error("Rate limit reached: you have {queued} requests waiting of at most {limit}. Try again in {} s.", .retry_after.as_secs())]
    RateLimited {
        /// The cap.
        limit: usize,
        /// What it counts now.
        queued: usize,
        /// When to come back.
        retry_after: Duration,
    },
    /// Everyone together asks too much.
    #[error("The server is overloaded: {what}. Try again in {} s.", .retry_after.as_secs())]
    Overloaded {
        /// What is full.
        what: String,
        /// When to come back.
        retry_after: Duration,
    },
    /// No node serves the base model now.
    #[error("No node serves the base model `{0}` at the moment.")]
    NoNode(String),
    /// This gateway is stopping.
    #[error("The server is shutting down.")]
    Draining,
    /// Registry or queue cannot be reached.
    #[error("A service behind the API cannot be reached at the moment.")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The job ended without an answer.
    #[error("{}", job_message(.0))]
    Job(JobFailure),
    /// No such path.
    #[error("Invalid URL ({method} {path})")]
    UnknownUrl {
        /// The method asked for.
        method: String,
        /// The path asked for.
        path: String,
    },
    /// The path exists, with other methods.
    #[error("Not allowed to {method} on {path}")]
    MethodNotAllowed {
        /// The method asked for.
        method: String,
        /// The path asked for.
        path: String,
    },
    /// Our fault. The cause goes to the log.
    #[error("The server had an error while processing your request. Sorry about that! Quote the x-request-id.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How long a prompt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptLength {
    /// Counted.
    Tokens(usize),
    /// Too long to be worth counting: its bytes cannot be fewer tokens than this.
    AtLeast(usize),
}

fn context_message(limit: usize, prompt: &PromptLength, completion: Option<u64>) -> String {
    let start = format!("This model's maximum context length is {limit} tokens.");
    match (prompt, completion) {
        (PromptLength::Tokens(prompt), Some(completion)) => format!(
            "{start} However, you requested {} tokens ({prompt} in the prompt, {completion} in the completion). Please \
             reduce the length of the prompt or the completion.",
            *prompt as u64 + completion
        ),
        (PromptLength::Tokens(prompt), None) => {
            format!("{start} However, your prompt resulted in {prompt} tokens. Please reduce its length.")
        }
        (PromptLength::AtLeast(prompt), _) => {
            format!("{start} However, your prompt resulted in at least {prompt} tokens. Please reduce its length.")
        }
    }
}

fn job_message(failure: &JobFailure) -> String {
    match failure {
        // What a node says of itself is for the log.
        JobFailure::Internal(_) => "The server had an error while processing your request.".to_owned(),
        JobFailure::DeadLetter { attempts, .. } => format!("The request failed {attempts} times and was given up."),
        shown => capitalised(&shown.to_string()),
    }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), characters.as_str()))
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
    /// A value that a field may not have, with what is allowed and what was given.
    #[must_use]
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidValue { param: param.into(), message: message.into() }
    }

    /// A field or value of the official API that is not supported here.
    #[must_use]
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Unsupported { param: param.into(), message: message.into() }
    }

    /// A broken invariant of ours.
    #[must_use]
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// The HTTP status that this error is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.facts().status
    }

    /// The field at fault.
    fn param(&self) -> Option<&str> {
        match self {
            Self::InvalidValue { param, .. } | Self::UnknownParameter(param) | Self::Unsupported { param, .. } => {
                Some(param)
            }
            Self::MissingParameter(param) | Self::ContextLength { param, .. } => Some(param),
            Self::ModelNotFound(_) | Self::ModelNotReady { .. } | Self::ModelTakenDown(_) | Self::BaseNotServed(_) => {
                Some("model")
            }
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
        let failed = |status, code, retry| Facts { status, kind: SERVER, code: Some(code), retry };
        match self {
            Self::InvalidValue { .. } => never(StatusCode::BAD_REQUEST, Some("invalid_value")),
            Self::MissingParameter(_) => never(StatusCode::BAD_REQUEST, Some("missing_required_parameter")),
            Self::UnknownParameter(_) => never(StatusCode::BAD_REQUEST, Some("unknown_parameter")),
            Self::Unsupported { .. } => never(StatusCode::BAD_REQUEST, Some("unsupported_parameter")),
            Self::ContextLength { .. } => never(StatusCode::BAD_REQUEST, Some("context_length_exceeded")),
            Self::MalformedJson(_) | Self::BodyCut => never(StatusCode::BAD_REQUEST, None),
            Self::MediaType(_) => never(StatusCode::UNSUPPORTED_MEDIA_TYPE, Some("unsupported_content_type")),
            Self::BodyTooLarge { .. } => never(StatusCode::PAYLOAD_TOO_LARGE, Some("request_too_large")),
            Self::BodyTimeout(_) => Facts { retry: Retry::Perhaps, ..never(StatusCode::REQUEST_TIMEOUT, None) },
            Self::NoKey => never(StatusCode::UNAUTHORIZED, None),
            Self::InvalidKey => never(StatusCode::UNAUTHORIZED, Some("invalid_api_key")),
            Self::MissingScope(_) => never(StatusCode::FORBIDDEN, Some("missing_scope")),
            Self::ModelNotFound(_) => never(StatusCode::NOT_FOUND, Some("model_not_found")),
            Self::ModelNotReady { .. } => {
                Facts { retry: Retry::Perhaps, ..never(StatusCode::CONFLICT, Some("model_not_ready")) }
            }
            Self::ModelTakenDown(_) => never(StatusCode::GONE, Some("model_taken_down")),
            Self::BaseNotServed(_) => never(StatusCode::BAD_REQUEST, Some("base_model_not_served")),
            Self::RateLimited { retry_after, .. } => Facts {
                status: StatusCode::TOO_MANY_REQUESTS,
                kind: "rate_limit_error",
                code: Some("rate_limit_exceeded"),
                retry: Retry::After(*retry_after),
            },
            Self::Overloaded { retry_after, .. } => busy("overloaded", *retry_after),
            Self::NoNode(_) => busy("no_node", Duration::from_secs(2)),
            Self::Draining => busy("shutting_down", Duration::from_secs(1)),
            Self::Unavailable(_) => busy("unavailable", Duration::from_secs(1)),
            Self::Job(failure) => match failure {
                JobFailure::Adapter(_) => failed(StatusCode::BAD_GATEWAY, "adapter_not_loaded", Retry::Perhaps),
                JobFailure::NotFinite { .. } => never(StatusCode::UNPROCESSABLE_ENTITY, Some("output_not_finite")),
                JobFailure::TooLarge { .. } => never(StatusCode::BAD_REQUEST, Some("request_too_large_for_node")),
                JobFailure::DeadlineExceeded => failed(StatusCode::GATEWAY_TIMEOUT, "timeout", Retry::Never),
                JobFailure::ShuttingDown => busy("shutting_down", Duration::from_secs(1)),
                JobFailure::DeadLetter { .. } => failed(StatusCode::INTERNAL_SERVER_ERROR, "given_up", Retry::Never),
                JobFailure::Internal(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", Retry::Perhaps),
            },
            Self::UnknownUrl { .. } => never(StatusCode::NOT_FOUND, Some("unknown_url")),
            Self::MethodNotAllowed { .. } => never(StatusCode::METHOD_NOT_ALLOWED, Some("method_not_supported")),
            Self::Internal(_) => failed(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", Retry::Perhaps),
        }
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

/// OpenAI's error envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
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

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid => Self::InvalidKey,
            AuthError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<ResolveError> for ApiError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NotFound(reference) => Self::ModelNotFound(reference),
            ResolveError::NotReady { reference, state } => Self::ModelNotReady { reference, state },
            ResolveError::TakenDown(reference) => Self::ModelTakenDown(reference),
            ResolveError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Full(full) => match full.scope {
                FullScope::TenantQueued | FullScope::TenantInFlight => {
                    Self::RateLimited { limit: full.limit, queued: full.queued, retry_after: full.retry_after }
                }
                FullScope::PoolQueued => Self::Overloaded {
                    what: format!("{} requests wait of at most {}", full.queued, full.limit),
                    retry_after: full.retry_after,
                },
            },
            QueueError::Unavailable(cause) => Self::Unavailable(cause),
            unexpected @ (QueueError::LeaseLost { .. } | QueueError::NotDead(_)) => Self::internal(unexpected),
        }
    }
}

impl From<TokenizerError> for ApiError {
    fn from(error: TokenizerError) -> Self {
        Self::internal(error)
    }
}

impl From<TemplateError> for ApiError {
    fn from(error: TemplateError) -> Self {
        match error {
            TemplateError::Refused(_) | TemplateError::NoMarker => Self::invalid("messages", error.to_string()),
            TemplateError::Failed(cause) if matches!(cause.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure) => {
                Self::invalid("messages", "The messages are too many or too long for the chat template.")
            }
            failed => Self::internal(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use souk_queue::QueueFull;

    use super::*;

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
