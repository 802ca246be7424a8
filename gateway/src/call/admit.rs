//! Lets requests in, a bounded number at a time, and measures how long they stay.

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::metrics;

/// A request that was let in; it lives as long as its answer, streams included.
pub(crate) struct Admission {
    _permit: OwnedSemaphorePermit,
    _in_flight: metrics::InFlight,
    route: String,
    started: Instant,
}

impl FromRequestParts<Gateway> for Admission {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let permit = gateway.admit()?;
        let route = parts.extensions.get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
        Ok(Self { _permit: permit, _in_flight: metrics::InFlight::enter(), route, started: Instant::now() })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        metrics::request_duration(&self.route, self.started.elapsed());
    }
}
