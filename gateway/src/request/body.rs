//! Reading a JSON body within its limits.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header;
use serde_json::Value;

use super::fields::Fields;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::limits::GatewayLimits;

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
        let bytes = read(request.into_body(), limits).await?;
        // The parser refuses nesting deeper than 128, so no body overflows the stack.
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|error| ApiError::MalformedJson(error.to_string()))?;
        match value {
            Value::Object(fields) => Ok(Self(Fields::new(fields))),
            _ => Err(ApiError::MalformedJson("the body must be a JSON object".to_owned())),
        }
    }
}

fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || (media.starts_with("application/") && media.ends_with("+json"))
}

async fn read(body: Body, limits: &GatewayLimits) -> Result<axum::body::Bytes, ApiError> {
    let read = tokio::time::timeout(limits.body_timeout, to_bytes(body, limits.max_body_bytes)).await;
    let read = read.map_err(|_| ApiError::BodyTimeout(limits.body_timeout))?;
    read.map_err(|error| {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(current) = cause {
            if current.to_string().contains("length limit exceeded") {
                return ApiError::BodyTooLarge { limit: limits.max_body_bytes };
            }
            cause = current.source();
        }
        ApiError::BodyCut
    })
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
}
