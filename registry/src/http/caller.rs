//! The caller as a handler's argument.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use souk_http::serve::ClientAddress;
use souk_protocol::Principal;

use crate::Registry;
use crate::auth::AuthError;
use crate::error::RegistryError;
use crate::sessions::SignedIn;

/// Who calls. A handler that takes it can only run behind authentication.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Principal);

/// The registry, with the connections that are for what this caller asks for.
pub(crate) struct Serving(pub(crate) Registry);

/// The person who calls with a session. A handler that takes it can be reached with nothing else.
#[derive(Clone)]
pub(crate) struct Session(pub(crate) Arc<SignedIn>);

/// The address that a request comes from, where the listener knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender(pub(crate) Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, RegistryError> {
        let signed_in = parts.extensions.get::<Arc<SignedIn>>().cloned();
        Ok(Self(signed_in.ok_or(RegistryError::SessionNeeded)?))
    }
}

impl<S: Sync> FromRequestParts<S> for Sender {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<ClientAddress>().map(|client| client.0)))
    }
}

impl FromRequestParts<Registry> for Serving {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, registry: &Registry) -> Result<Self, RegistryError> {
        match parts.extensions.get::<Principal>() {
            Some(principal) => Ok(Self(registry.for_caller(principal))),
            // A person who is a member nowhere.
            None if parts.extensions.get::<Arc<SignedIn>>().is_some() => Ok(Self(registry.for_no_tenant())),
            None => Err(AuthError::Missing.into()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = RegistryError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, RegistryError> {
        let principal = parts.extensions.get::<Principal>().cloned();
        Ok(Self(principal.ok_or(AuthError::Missing)?))
    }
}
