//! Lets requests in, a bounded number at a time.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::metrics;

/// A request that was let in; it lives as long as its answer, streams included.
pub(crate) struct Admission {
    _permit: OwnedSemaphorePermit,
    _in_flight: metrics::InFlight,
}

impl FromRequestParts<Gateway> for Admission {
    type Rejection = ApiError;

    async fn from_request_parts(_parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        Ok(Self { _permit: gateway.admit()?, _in_flight: metrics::InFlight::enter() })
    }
}
