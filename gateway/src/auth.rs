//! Who is calling, checked before anything of the body is read.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use souk_http::bearer::{self, BearerError};
use souk_protocol::{Principal, Scope};

use crate::error::ApiError;
use crate::gateway::Gateway;

/// A caller whose key may call models.
pub(crate) struct Caller(pub(crate) Principal);

impl FromRequestParts<Gateway> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let key = bearer::token(&parts.headers).map_err(|error| match error {
            BearerError::Missing => ApiError::NoKey,
            BearerError::Malformed => ApiError::InvalidKey,
        })?;
        let principal = gateway.catalog().authenticate(key).await?;
        if !principal.may(Scope::Inference) {
            return Err(ApiError::MissingScope(Scope::Inference));
        }
        // Its body counts as this tenant's.
        parts.extensions.insert(principal.tenant.clone());
        Ok(Self(principal))
    }
}
