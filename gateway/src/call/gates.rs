//! The gates of the gateway: bytes of bodies that are held, and requests under way. Each has a share for every
//! tenant, by its weight, and a reserve for those who have next to nothing (docs/limits.md).

use std::time::{Duration, Instant};

use souk_protocol::TenantId;
use souk_protocol::gate::{Cause, Gate, Pass, Refusal, Rules, Weight};

use crate::error::ApiError;
use crate::limits::GatewayLimits;

/// A body of this length is a small request's.
const SMALL_BODY: u64 = 64 << 10;

/// Who holds something, and how large its share is beside others'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) tenant: TenantId,
    pub(crate) weight: Weight,
}

/// What requests hold while they are in the gateway.
pub(crate) struct Gates {
    /// One for each request that is under way or whose jobs are not settled.
    in_flight: Gate<TenantId>,
    /// Bytes of bodies from the first that is read until their texts are no longer held.
    bodies: Gate<TenantId>,
}

/// Bytes of a body, counted while it or its texts are held.
pub(crate) struct BodyBytes(Pass<TenantId>);

impl Gates {
    pub(crate) fn new(limits: &GatewayLimits) -> Self {
        let gate = |total: u64, small| Gate::new(Rules::with_an_eighth_kept(total, small, total));
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

    /// Lets in a request.
    pub(crate) fn begin_request(&self, holder: &Holder) -> Result<Pass<TenantId>, ApiError> {
        let entered = self.in_flight.enter_with_weight(&holder.tenant, 1, holder.weight, Instant::now());
        entered.map_err(|refusal| refuse(&refusal, "requests under way"))
    }

    /// Lets in the body of a request, of which `announced` bytes are said to come.
    pub(crate) fn begin_body(&self, holder: &Holder, announced: u64) -> Result<BodyBytes, ApiError> {
        let counted = self.bodies.enter_with_weight(&holder.tenant, announced, holder.weight, Instant::now());
        counted.map(BodyBytes).map_err(|refusal| refuse(&refusal, "bytes of bodies being read"))
    }
}

impl BodyBytes {
    /// Counts up to `len` bytes, those that were announced among them.
    pub(crate) fn count_to(&mut self, len: usize) -> Result<(), ApiError> {
        let more = (len as u64).saturating_sub(self.0.amount());
        if more == 0 {
            return Ok(());
        }
        self.0.grow(more, Instant::now()).map_err(|refusal| refuse(&refusal, "bytes of bodies being read"))
    }
}

fn refuse(refusal: &Refusal, what: &str) -> ApiError {
    let (what, retry_after) = (format!("{what}: {refusal}"), Duration::from_secs(1));
    match refusal.cause {
        Cause::Share => ApiError::ShareTaken { what, retry_after },
        Cause::Full => ApiError::Overloaded { what, retry_after },
    }
}
