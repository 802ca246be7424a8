//! What a living gateway says every third of a lease: that it lives, and what it holds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use souk_limits::port::LEASE;
use souk_limits::{RepeatKey, Repeats};
use souk_protocol::{RequestId, TenantId};

use super::holdings::Holdings;

/// The requests with an `Idempotency-Key` that run here.
#[derive(Default)]
pub(crate) struct RunningRepeats(Mutex<HashMap<RepeatKey, (TenantId, RequestId)>>);

impl RunningRepeats {
    pub(crate) fn add(&self, tenant: &TenantId, key: RepeatKey, request: &RequestId) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.insert(key, (tenant.clone(), request.clone()));
    }

    pub(crate) fn remove(&self, key: &RepeatKey) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    fn by_tenant(&self) -> HashMap<TenantId, Vec<(RepeatKey, RequestId)>> {
        let mut tenants: HashMap<TenantId, Vec<(RepeatKey, RequestId)>> = HashMap::new();
        for (key, (tenant, request)) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            tenants.entry(tenant.clone()).or_default().push((*key, request.clone()));
        }
        tenants
    }
}

/// Renews everything, for ever.
pub(super) async fn keep_up(holdings: Arc<Holdings>, repeats: Arc<dyn Repeats>, running: Arc<RunningRepeats>) {
    loop {
        tokio::time::sleep(LEASE / 3).await;
        holdings.renew().await;
        for (tenant, keys) in running.by_tenant() {
            if let Err(error) = repeats.renew(&tenant, &keys).await {
                tracing::warn!(%error, %tenant, "keys of requests under way cannot be renewed");
            }
        }
    }
}
