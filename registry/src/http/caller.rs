//! The caller as a handler's argument.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use souk_protocol::Principal;

use crate::Registry;
use crate::auth::AuthError;
use crate::error::RegistryError;

/// Who calls. A handler that takes it can only run behind authentication.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Principal);

/// The registry, with the connections that are for what this caller asks for.
pub(crate) struct Serving(pub(crate) Registry);

impl FromRequestParts<Registry> for Serving {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, registry: &Registry) -> Result<Self, RegistryError> {
        let principal = parts.extensions.get::<Principal>().ok_or(AuthError::Missing)?;
        Ok(Self(registry.for_caller(principal)))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, RegistryError> {
        let principal = parts.extensions.get::<Principal>().cloned();
        Ok(Self(principal.ok_or(AuthError::Missing)?))
    }
}
