//! The store of limits in memory, which can go away and lose what it knew, as one elsewhere does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use souk_limits::{
    Amounts, Ask, Held, KeptAnswer, Limits, LimitsError, MemoryLimits, RepeatKey, RepeatState, Repeats, ReserveError,
    Reserved,
};
use souk_protocol::{Digest, RequestId, TenantId, Total};

/// Bytes of kept answers.
const KEPT: usize = 1 << 20;

/// A store that can be switched off.
pub(crate) struct Switched {
    inner: Mutex<Arc<MemoryLimits>>,
    is_away: AtomicBool,
    /// Whether who reserves waits.
    stalls: AtomicBool,
}

impl Default for Switched {
    fn default() -> Self {
        let (is_away, stalls) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { inner: Mutex::new(Arc::new(MemoryLimits::new(KEPT))), is_away, stalls }
    }
}

impl Switched {
    pub(crate) fn go_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Release);
    }

    pub(crate) fn stall(&self, stalls: bool) {
        self.stalls.store(stalls, Ordering::Release);
    }

    /// Loses all that it knew.
    pub(crate) fn lose(&self) {
        *self.inner.lock().unwrap() = Arc::new(MemoryLimits::new(KEPT));
    }

    /// Requests that something is held for, whatever their gateways say.
    pub(crate) fn holdings(&self) -> usize {
        self.inner.lock().unwrap().sizes().holdings
    }

    fn now(&self) -> Result<Arc<MemoryLimits>, LimitsError> {
        if self.is_away.load(Ordering::Acquire) {
            return Err(LimitsError("the store is away".into()));
        }
        Ok(Arc::clone(&self.inner.lock().unwrap()))
    }
}

#[async_trait]
impl Limits for Switched {
    async fn reserve(&self, ask: &Ask) -> Result<Reserved, ReserveError> {
        while self.stalls.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.now()?.reserve(ask).await
    }

    async fn settle(&self, tenant: &TenantId, request: &RequestId, used: Amounts) -> Result<(), LimitsError> {
        self.now()?.settle(tenant, request, used).await
    }

    async fn count(&self, tenant: &TenantId, totals: &[Total], written: &[RequestId]) -> Result<(), LimitsError> {
        self.now()?.count(tenant, totals, written).await
    }

    async fn renew(&self, tenant: &TenantId, requests: &[RequestId]) -> Result<Vec<RequestId>, LimitsError> {
        Limits::renew(self.now()?.as_ref(), tenant, requests).await
    }

    async fn restore(&self, held: &[Held]) -> Result<(), LimitsError> {
        self.now()?.restore(held).await
    }
}

#[async_trait]
impl Repeats for Switched {
    async fn begin(
        &self,
        tenant: &TenantId,
        key: RepeatKey,
        fingerprint: Digest,
        request: &RequestId,
    ) -> Result<RepeatState, LimitsError> {
        self.now()?.begin(tenant, key, fingerprint, request).await
    }

    async fn renew(&self, tenant: &TenantId, keys: &[(RepeatKey, RequestId)]) -> Result<(), LimitsError> {
        Repeats::renew(self.now()?.as_ref(), tenant, keys).await
    }

    async fn end(
        &self,
        tenant: &TenantId,
        key: RepeatKey,
        request: &RequestId,
        answer: Option<KeptAnswer>,
    ) -> Result<(), LimitsError> {
        self.now()?.end(tenant, key, request, answer).await
    }

    async fn forget(&self, tenant: &TenantId, key: RepeatKey, request: &RequestId) -> Result<(), LimitsError> {
        self.now()?.forget(tenant, key, request).await
    }
}
