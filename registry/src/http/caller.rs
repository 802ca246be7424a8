//! The caller as a handler's argument.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use souk_protocol::{Principal, Scope};

use crate::auth::AuthError;
use crate::error::RegistryError;

/// Who calls. A handler that takes it can only run behind authentication.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Principal);

impl Caller {
    /// Ends the request with 403 unless the caller's key carries `scope`.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), RegistryError> {
        if self.0.may(scope) { Ok(()) } else { Err(RegistryError::MissingScope(scope)) }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, RegistryError> {
        let principal = parts.extensions.get::<Principal>().cloned();
        Ok(Self(principal.ok_or(AuthError::Missing)?))
    }
}
