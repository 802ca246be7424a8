//! The port to the registry's rows of usage.

use async_trait::async_trait;
use souk_protocol::{Digest, RequestId, RequestRecord, TenantId, Total, TotalKey};

/// Where rows of usage are written, and what they sum up to.
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// Writes requests, each with all its jobs or not at all, and moves the totals of its day and its month in the same
    /// transaction. What is there already is left as it is and counts no second time, so a batch whose answer was lost is sent
    /// again. Returns the totals that `requests` belong to, as they are now: those of what was there already, too.
    ///
    /// # Errors
    /// [`UsageStoreError`]; then nothing was written, or it was and is not known.
    async fn write(&self, requests: &[RequestRecord]) -> Result<Vec<Total>, UsageStoreError>;

    /// What rows sum up to now; version 0 where there are none. One for each key, in their order.
    ///
    /// # Errors
    /// [`UsageStoreError`].
    async fn totals(&self, keys: &[TotalKey]) -> Result<Vec<Total>, UsageStoreError>;

    /// The request of a tenant that had this [`RequestRecord::repeat`] within a day, if it was charged.
    ///
    /// # Errors
    /// [`UsageStoreError`].
    async fn repeated(&self, tenant: &TenantId, repeat: Digest) -> Result<Option<RequestId>, UsageStoreError>;
}

/// Why nothing was written or read. Causes are for the log, not for the caller.
#[derive(Debug, thiserror::Error)]
pub enum UsageStoreError {
    /// The store cannot answer now; the same may be asked again.
    #[error("rows of usage cannot be written or read now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It will never take one of these requests, whatever is sent with it, and says why; nothing of the batch was written.
    #[error("rows of usage are refused: {0}")]
    Refused(String),
}
