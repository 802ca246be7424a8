//! Who is calling, checked before anything of the body is read.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use souk_protocol::{Principal, Scope};

use crate::error::ApiError;
use crate::gateway::Gateway;

/// A caller whose key may call models.
pub(crate) struct Caller(pub(crate) Principal);

/// No key is longer; what is longer is not looked up.
const MAX_KEY_BYTES: usize = 4096;

impl FromRequestParts<Gateway> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let header = parts.headers.get(AUTHORIZATION).ok_or(ApiError::NoKey)?;
        let text = header.to_str().map_err(|_| ApiError::InvalidKey)?;
        let (scheme, key) = text.trim().split_once(' ').ok_or(ApiError::NoKey)?;
        let key = key.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || key.is_empty() {
            return Err(ApiError::NoKey);
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(ApiError::InvalidKey);
        }
        let principal = gateway.catalog().authenticate(key).await?;
        if !principal.may(Scope::Inference) {
            return Err(ApiError::MissingScope(Scope::Inference));
        }
        Ok(Self(principal))
    }
}
