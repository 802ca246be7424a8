//! The gateway's way to rows of usage when the registry is in the same process: function calls.

use async_trait::async_trait;
use souk_gateway::usage::{UsageStore, UsageStoreError};
use souk_protocol::{Digest, RequestId, RequestRecord, TenantId, Total, TotalKey};
use souk_registry::{Registry, RegistryError};

/// Writes by a registry in the same process.
pub(crate) struct InProcessUsage(Registry);

impl InProcessUsage {
    pub(crate) const fn new(registry: Registry) -> Self {
        Self(registry)
    }
}

#[async_trait]
impl UsageStore for InProcessUsage {
    async fn write(&self, requests: &[RequestRecord]) -> Result<Vec<Total>, UsageStoreError> {
        self.0.write_usage(requests).await.map_err(unavailable)
    }

    async fn totals(&self, keys: &[TotalKey]) -> Result<Vec<Total>, UsageStoreError> {
        self.0.usage_totals(keys).await.map_err(unavailable)
    }

    async fn repeated(&self, tenant: &TenantId, repeat: Digest) -> Result<Option<RequestId>, UsageStoreError> {
        self.0.repeated_request(tenant, repeat).await.map_err(unavailable)
    }
}

fn unavailable(error: RegistryError) -> UsageStoreError {
    match error {
        RegistryError::BadRequest { detail, .. } => UsageStoreError::Refused(detail),
        error => UsageStoreError::Unavailable(error.into()),
    }
}
