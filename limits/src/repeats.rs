//! Repeats of a request: what an `Idempotency-Key` names runs once.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use souk_protocol::{Digest, RequestId, TenantId};

use crate::error::LimitsError;

/// How long a key is remembered after the end of its request.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Bytes of the longest answer that is kept.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Which request is meant: a digest of the route, the caller's key and the `Idempotency-Key` header, so that no caller is given
/// what another was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepeatKey(pub Digest);

/// An answer that may be given again, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// The content type.
    pub content_type: String,
    /// At most [`MAX_ANSWER_BYTES`].
    pub body: Vec<u8>,
    /// Headers that are the answer's own, by name.
    pub headers: Vec<(String, String)>,
}

impl KeptAnswer {
    /// How many bytes it takes.
    #[must_use]
    pub fn num_bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.content_type.len() + self.body.len() + headers.sum::<usize>()
    }
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepeatState {
    /// Nothing was; it runs now, under the id that was given.
    First,
    /// It runs, under this id.
    Running(RequestId),
    /// It has ended.
    Ended {
        /// Under this id.
        request: RequestId,
        /// With this answer, if it was kept.
        answer: Option<KeptAnswer>,
    },
    /// The same key came with another body.
    Mismatch,
}

/// Keys of requests under way, and of those that ended within [`KEPT_FOR`].
///
/// # What happens when
///
/// A key of a request under way is held under a lease, which its gateway renews; a gateway that dies lets go of it, and the
/// request may run again, since what a dead gateway answered is not charged. The keys of ended requests are in the rows of usage
/// too, so a store that lost its data takes nothing for new that was charged: its caller looks there first. So a store may also
/// let go of the oldest ended ones when they take more room than they may.
///
/// Beginning a request again under the id that it has, as after an answer that was lost, is [`RepeatState::First`] again.
#[async_trait]
pub trait Repeats: Send + Sync {
    /// Begins a request, unless it is known. `fingerprint` is a digest of its body.
    ///
    /// # Errors
    /// [`LimitsError`].
    async fn begin(
        &self,
        tenant: &TenantId,
        key: RepeatKey,
        fingerprint: Digest,
        request: &RequestId,
    ) -> Result<RepeatState, LimitsError>;

    /// Renews the leases of requests under way.
    ///
    /// # Errors
    /// [`LimitsError`].
    async fn renew(&self, tenant: &TenantId, keys: &[(RepeatKey, RequestId)]) -> Result<(), LimitsError>;

    /// Ends a request that was charged, with its answer if that is to be kept. What another request runs under is left alone.
    ///
    /// # Errors
    /// [`LimitsError`].
    async fn end(
        &self,
        tenant: &TenantId,
        key: RepeatKey,
        request: &RequestId,
        answer: Option<KeptAnswer>,
    ) -> Result<(), LimitsError>;

    /// Forgets a request that was not charged: it may run again.
    ///
    /// # Errors
    /// [`LimitsError`].
    async fn forget(&self, tenant: &TenantId, key: RepeatKey, request: &RequestId) -> Result<(), LimitsError>;
}
