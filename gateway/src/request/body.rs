//! Reading a JSON body within its limits.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::BodyExt as _;
use souk_http::idempotency::IDEMPOTENCY_KEY;
use souk_http::serve::is_too_slow;
use souk_protocol::Digest;

use super::fields::Fields;
use crate::call::gates::{BodyBytes, Holder};
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::limits::GatewayLimits;

/// Parsing a text is about so many times as fast as encoding it.
const PARSING_SPEED: usize = 4;

/// The body of a request.
pub(crate) struct JsonBody<T> {
    pub(crate) request: T,
    /// What the request's texts count as while they are held.
    pub(crate) bytes: BodyBytes,
    /// Digest of the body of a request with an `Idempotency-Key`.
    pub(crate) fingerprint: Option<Digest>,
}

/// What a body can be.
pub(crate) trait FromFields: Sized {
    /// Takes all fields, each within its limits.
    fn parse(fields: Fields<'_>, limits: &GatewayLimits) -> Result<Self, ApiError>;
}

impl<T: FromFields + Send + 'static> FromRequest<Gateway> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        let limits = gateway.limits();
        let content_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        let content_type = content_type.unwrap_or("none").to_owned();
        if !is_json(&content_type) {
            return Err(ApiError::MediaType(content_type.chars().take(80).collect()));
        }
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > limits.max_body_bytes as u64) {
            return Err(ApiError::BodyTooLarge { limit: limits.max_body_bytes });
        }
        if gateway.is_draining() {
            return Err(ApiError::Draining);
        }
        let has_key = request.headers().contains_key(IDEMPOTENCY_KEY);
        let holder = request.extensions().get::<Holder>().cloned().ok_or(ApiError::NoKey)?;
        let mut counted = gateway.gates().begin_body(&holder, length.unwrap_or_default())?;
        let bytes = read(request.into_body(), &mut counted, length, limits).await?;
        let num_bytes = bytes.len();
        let shared = gateway.clone();
        let work = move || Ok((parse(&bytes, shared.limits())?, counted, has_key.then(|| Digest::of(&bytes))));
        let (request, bytes, fingerprint) = gateway.texts_of(&holder).run(num_bytes / PARSING_SPEED, work).await?;
        Ok(Self { request, bytes, fingerprint })
    }
}

/// The request that a body is. It takes less than eight times the bytes in memory, however they are chosen.
pub(crate) fn parse<T: FromFields>(bytes: &[u8], limits: &GatewayLimits) -> Result<T, ApiError> {
    T::parse(Fields::of_body(bytes)?, limits)
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

async fn read(
    body: Body,
    counted: &mut BodyBytes,
    announced: Option<u64>,
    limits: &GatewayLimits,
) -> Result<Vec<u8>, ApiError> {
    let bytes = Vec::with_capacity(announced.unwrap_or_default() as usize);
    let read = tokio::time::timeout(limits.body_timeout, collect(body, bytes, counted, limits)).await;
    read.map_err(|_| ApiError::BodyTimeout(limits.body_timeout))?
}

/// All bytes of a body. Those that were not announced are counted as they come.
async fn collect(
    mut body: Body,
    mut bytes: Vec<u8>,
    counted: &mut BodyBytes,
    limits: &GatewayLimits,
) -> Result<Vec<u8>, ApiError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| match is_too_slow(&error) {
            true => ApiError::BodyTooSlow,
            false => ApiError::BodyCut,
        })?;
        // Trailers say nothing here.
        let Ok(part) = frame.into_data() else { continue };
        let len = bytes.len() + part.len();
        if len > limits.max_body_bytes {
            return Err(ApiError::BodyTooLarge { limit: limits.max_body_bytes });
        }
        counted.count_to(len)?;
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["none", "text/plain", "application/x-www-form-urlencoded", "text/json+json"] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    #[test]
    fn any_bytes_of_a_request_are_read_or_refused_with_a_400() {
        use crate::request::{ChatRequest, CompletionRequest};

        let limits = GatewayLimits::default();
        souk_testkit::fuzz("request_body", |bytes| {
            let is_chat = bytes.windows(8).any(|part| part == b"messages");
            let parsed = match is_chat {
                true => parse::<ChatRequest>(bytes, &limits).map(|request| request.generation),
                false => parse::<CompletionRequest>(bytes, &limits).map(|request| request.generation),
            };
            match parsed {
                Ok(generation) => format!("{:?}", generation.constraint.is_some()),
                Err(error) => {
                    assert_eq!(error.status().as_u16(), 400, "{error}");
                    let said = error.to_string();
                    assert!(said.len() < 2000, "{} bytes", said.len());
                    format!("{is_chat} {said}")
                }
            }
        });
    }
}
