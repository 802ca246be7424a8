//! The gateway's view of keys and adapters when the registry is in the same process: function calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use souk_gateway::{AuthError, Catalog, ModelEntry, ModelPage};
use souk_protocol::{AdapterName, AdapterRef, LimitTree, Principal, ResolveError, ResolvedAdapter};
use souk_registry::{ListedModel, ListedModels, Registry, WarmCatalog, public_adapters_after};

/// Asks a registry in the same process. Who calls and what they mean is kept for a moment, and until something changes.
pub(crate) struct InProcessCatalog {
    registry: Registry,
    warm: WarmCatalog,
}

impl InProcessCatalog {
    pub(crate) fn new(registry: Registry, stale: Duration) -> Self {
        Self { warm: WarmCatalog::new(registry.clone(), stale), registry }
    }
}

#[async_trait]
impl Catalog for InProcessCatalog {
    async fn authenticate(&self, presented: &str) -> Result<Principal, AuthError> {
        self.warm.authenticate(presented).await.map_err(|error| match error {
            souk_registry::AuthError::Unavailable(cause) => AuthError::Unavailable(cause.into()),
            unknown @ souk_registry::AuthError::RevocationsUnknown => AuthError::Unavailable(unknown.into()),
            _ => AuthError::Invalid,
        })
    }

    async fn resolve(&self, principal: &Principal, reference: &AdapterRef) -> Result<ResolvedAdapter, ResolveError> {
        self.warm.resolve(principal, reference).await
    }

    async fn chat_template(&self, adapter: &ResolvedAdapter) -> Result<Option<String>, ResolveError> {
        self.registry.chat_template(adapter).await
    }

    async fn list(&self, principal: &Principal, most_public: usize) -> Result<ModelPage, ResolveError> {
        let listed = self.registry.list_models(principal, most_public).await;
        let ListedModels { models, more_after } = listed.map_err(|error| ResolveError::Unavailable(error.into()))?;
        let next = more_after.as_ref().map(public_adapters_after);
        Ok(ModelPage { entries: models.iter().map(entry).collect(), next })
    }

    async fn entry(&self, principal: &Principal, name: &AdapterName) -> Result<ModelEntry, ResolveError> {
        let model = self.registry.listed_model(principal, name).await;
        let model = model.map_err(|error| ResolveError::Unavailable(error.into()))?;
        model.as_ref().map(entry).ok_or_else(|| ResolveError::NotFound(name.to_string()))
    }

    async fn limits(&self, principal: &Principal) -> Result<Arc<LimitTree>, AuthError> {
        self.warm.limits(principal).await.map_err(AuthError::Unavailable)?.ok_or(AuthError::Invalid)
    }
}

fn entry(model: &ListedModel) -> ModelEntry {
    ModelEntry {
        id: model.name.to_string(),
        owner: model.name.owner().to_owned(),
        created_unix_s: model.created_unix_s.try_into().unwrap_or_default(),
    }
}
