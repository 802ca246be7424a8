//! Lets requests in, a bounded number at a time.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::metrics;

/// A request that was let in; it lives as long as its answer, streams included.
pub(crate) struct Admission {
    place: Place,
    _in_flight: metrics::InFlight,
}

/// A place among the requests under way. The answer holds it, and so does each of the request's jobs until it is settled:
/// what nobody reads any more and a node still works on counts as under way.
pub(crate) type Place = Arc<OwnedSemaphorePermit>;

impl Admission {
    /// The place, for the request's jobs to share.
    pub(crate) fn place(&self) -> Place {
        Arc::clone(&self.place)
    }
}

impl FromRequestParts<Gateway> for Admission {
    type Rejection = ApiError;

    async fn from_request_parts(_parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        Ok(Self { place: Arc::new(take_place(gateway)?), _in_flight: metrics::InFlight::enter() })
    }
}

fn take_place(gateway: &Gateway) -> Result<OwnedSemaphorePermit, ApiError> {
    if gateway.is_draining() {
        return Err(ApiError::Draining);
    }
    Arc::clone(gateway.in_flight()).try_acquire_owned().map_err(|_| ApiError::Overloaded {
        what: format!("{} requests are under way, which is the limit", gateway.limits().max_in_flight),
        retry_after: Duration::from_secs(1),
    })
}
