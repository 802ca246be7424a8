//! The gates of the gateway: bytes of bodies that are being read, and requests under way. Each has a share for every tenant
//! and a reserve for those who have next to nothing (docs/limits.md).

use std::sync::Arc;
use std::time::{Duration, Instant};

use souk_protocol::gate::{Cause, Gate, Pass, Refusal, Rules};
use souk_protocol::{Principal, TenantId};

use crate::error::ApiError;
use crate::gateway::Gateway;
use crate::limits::GatewayLimits;
use crate::metrics;

/// A body of this length is a small request's.
const SMALL_BODY: u64 = 64 << 10;

/// What requests hold while they are in the gateway.
pub(crate) struct Gates {
    /// One for each request that is under way or whose jobs are not settled.
    in_flight: Gate<TenantId>,
    /// Bytes of bodies from the first that is read until they are parsed.
    bodies: Gate<TenantId>,
}

/// A request that was let in; it lives as long as its answer, streams included.
pub(crate) struct Admission {
    place: Place,
    _in_flight: metrics::InFlight,
}

/// A place among the requests under way. The answer holds it, and so does each of the request's jobs until it is settled:
/// what nobody reads any more and a node still works on counts as under way.
pub(crate) type Place = Arc<Pass<TenantId>>;

/// Bytes of a body, counted until it is parsed.
pub(crate) type BodyBytes = Pass<TenantId>;

impl Gates {
    pub(crate) fn new(limits: &GatewayLimits) -> Self {
        let gate = |total: u64, small| Gate::new(Rules { total, reserve: total / 8, small, most: total });
        Self {
            in_flight: gate(limits.max_in_flight as u64, 1),
            bodies: gate(limits.max_reading_bytes as u64, SMALL_BODY),
        }
    }

    /// Requests that are under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.used()
    }

    /// Bytes of bodies that are being read.
    pub(crate) fn reading(&self) -> u64 {
        self.bodies.used()
    }

    /// Lets in the body of a request, of which `announced` bytes are said to come.
    pub(crate) fn begin_body(&self, tenant: &TenantId, announced: u64) -> Result<BodyBytes, ApiError> {
        self.bodies.enter(tenant, announced, Instant::now()).map_err(|refusal| refuse(&refusal, BODY_BYTES))
    }

    /// Lets in as many more bytes of it.
    pub(crate) fn more_of_body(body: &mut BodyBytes, bytes: u64) -> Result<(), ApiError> {
        body.grow(bytes, Instant::now()).map_err(|refusal| refuse(&refusal, BODY_BYTES))
    }
}

impl Admission {
    /// Lets a request in. Its body has been read: whoever is slow to send one holds no place.
    pub(crate) fn take(gateway: &Gateway, caller: &Principal) -> Result<Self, ApiError> {
        let place = gateway.gates().in_flight.enter(&caller.tenant, 1, Instant::now());
        let place = place.map_err(|refusal| refuse(&refusal, "requests under way"))?;
        // In this order, so that none slips in after draining saw the last one leave.
        if gateway.is_draining() {
            return Err(ApiError::Draining);
        }
        Ok(Self { place: Arc::new(place), _in_flight: metrics::InFlight::enter() })
    }

    /// The place, for the request's jobs to share.
    pub(crate) fn place(&self) -> Place {
        Arc::clone(&self.place)
    }
}

const BODY_BYTES: &str = "bytes of bodies being read";

fn refuse(refusal: &Refusal, what: &str) -> ApiError {
    let retry_after = Duration::from_secs(1);
    match refusal.cause {
        Cause::Share => ApiError::ShareTaken { what: format!("{what}: {refusal}"), retry_after },
        Cause::Full => ApiError::Overloaded { what: format!("{what}: {refusal}"), retry_after },
    }
}
