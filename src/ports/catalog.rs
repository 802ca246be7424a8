//! The gateway's view of keys and adapters when the registry is in the same process: function calls.

use async_trait::async_trait;
use souk_gateway::{AuthError, Catalog, ModelEntry};
use souk_protocol::{AdapterRef, Principal, ResolveError, ResolvedAdapter};
use souk_registry::Registry;

/// Asks a registry in the same process, each time anew.
pub(crate) struct InProcessCatalog(pub(crate) Registry);

#[async_trait]
impl Catalog for InProcessCatalog {
    async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        self.0.authenticate(presented).await.map_err(|error| match error {
            souk_registry::AuthError::Unavailable(cause) => AuthError::Unavailable(cause.into()),
            unknown @ souk_registry::AuthError::RevocationsUnknown => AuthError::Unavailable(unknown.into()),
            _ => AuthError::Invalid,
        })
    }

    async fn resolve(&self, principal: &Principal, reference: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        self.0.resolve(principal, reference).await
    }

    async fn chat_template(&self, adapter: &ResolvedAdapter) -> Result<Option<String>, ResolveError> {
        self.0.chat_template(adapter).await
    }

    async fn list(&self, principal: &Principal) -> Result<Vec<ModelEntry>, ResolveError> {
        let models = self.0.list_models(principal).await.map_err(|error| ResolveError::Unavailable(error.into()))?;
        Ok(models
            .into_iter()
            .map(|model| ModelEntry {
                id: model.name.to_string(),
                owner: model.name.owner().to_owned(),
                created_unix_s: model.created_unix_s.try_into().unwrap_or_default(),
            })
            .collect())
    }
}
