//! Lets requests in once their body has been read.

use std::sync::Arc;

use souk_protocol::TenantId;
use souk_protocol::gate::Pass;
use tokio::time::Instant;

use super::gates::Holder;
use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::metrics::{self, Stage};

/// A request that was let in; it lives as long as its answer, streams included.
pub(crate) struct Admission {
    place: Place,
    _in_flight: metrics::InFlight,
}

/// A place among the requests under way. The answer holds it, and so does each of the request's jobs until it is
/// settled: what nobody reads any more and a node still works on counts as under way.
pub(crate) type Place = Arc<Pass<TenantId>>;

impl Admission {
    /// Lets a request in. Its body has been read: whoever is slow to send one holds no place.
    pub(crate) fn take(gateway: &Gateway, holder: &Holder) -> Result<Self, ApiError> {
        let began = Instant::now();
        let place = gateway.gates().begin_request(holder)?;
        // In this order, so that none slips in after draining saw the last one leave.
        if gateway.is_draining() {
            return Err(ApiError::Draining);
        }
        metrics::stage(Stage::Admit, began.elapsed());
        Ok(Self { place: Arc::new(place), _in_flight: metrics::InFlight::enter() })
    }

    /// The place, for the request's jobs to share.
    pub(crate) fn place(&self) -> Place {
        Arc::clone(&self.place)
    }
}
