//! Reading a JSON body within its limits.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use http_body_util::BodyExt as _;
use serde_json::Value;
use souk_http::serve::is_too_slow;
use souk_protocol::TenantId;

use super::fields::Fields;
use crate::call::gates::BodyBytes;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::limits::GatewayLimits;

/// Parsing a text is about so many times as fast as encoding it.
const PARSING_SPEED: usize = 8;

/// The body of a request as an object of fields.
pub(crate) struct JsonBody(pub(crate) Fields);

impl FromRequest<Gateway> for JsonBody {
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
        let tenant = request.extensions().get::<TenantId>().cloned().ok_or(ApiError::NoKey)?;
        let mut counted = gateway.gates().begin_body(&tenant, length.unwrap_or_default())?;
        let bytes = read(request.into_body(), &mut counted, limits).await?;
        gateway.texts_of(&tenant).run(bytes.len() / PARSING_SPEED, move || parse(&bytes)).await
    }
}

fn parse(bytes: &[u8]) -> Result<JsonBody, ApiError> {
    // The parser refuses nesting deeper than 128, so no body overflows the stack.
    match serde_json::from_slice(bytes).map_err(|error| ApiError::MalformedJson(error.to_string()))? {
        Value::Object(fields) => Ok(JsonBody(Fields::new(fields))),
        _ => Err(ApiError::MalformedJson("the body must be a JSON object".to_owned())),
    }
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

async fn read(body: Body, counted: &mut BodyBytes, limits: &GatewayLimits) -> Result<Vec<u8>, ApiError> {
    let read = tokio::time::timeout(limits.body_timeout, collect(body, counted, limits)).await;
    read.map_err(|_| ApiError::BodyTimeout(limits.body_timeout))?
}

/// All bytes of a body. Those that were not announced are counted as they come.
async fn collect(mut body: Body, counted: &mut BodyBytes, limits: &GatewayLimits) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
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
            let parsed = parse(bytes).and_then(|JsonBody(fields)| match is_chat {
                true => ChatRequest::parse(fields, &limits).map(|request| request.generation),
                false => CompletionRequest::parse(fields, &limits).map(|request| request.generation),
            });
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
