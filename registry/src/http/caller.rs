//! The caller as a handler's argument.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use souk_protocol::Principal;

use crate::auth::AuthError;
use crate::error::RegistryError;

/// Who calls. A handler that takes it can only run behind authentication.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, RegistryError> {
        let principal = parts.extensions.get::<Principal>().cloned();
        Ok(Self(principal.ok_or(AuthError::Missing)?))
    }
}
